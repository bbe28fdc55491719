"""Django's system checks of the app ``windlass.processes``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, Warning, register

from windlass import conf as engine
from windlass.exceptions import ConfigurationError
from windlass.processes import conf
from windlass.processes.lines import log_model
from windlass.processes.settling import process_models


@register(Tags.models)
def check_processes(**kwargs: Any) -> list[CheckMessage]:
    """Check the setting, the queue, and that each process has a log."""
    return list(_messages())


def _messages() -> Iterator[CheckMessage]:
    try:
        options = conf.options()
        conf.backend()
    except ConfigurationError as error:
        yield Error(str(error), obj=conf.SETTING, id="windlass.processes.E001")
        return
    for model in process_models():
        try:
            log_model(model)
        except ConfigurationError as error:
            yield Warning(str(error), obj=model, id="windlass.processes.W001")
    if not getattr(conf.backend(), "is_transactional", False):
        return
    alias = options.tasks_alias
    if alias not in engine.aliases():
        yield Error(
            f"Processes run by the backend {alias!r} of TASKS, and there is none of "
            "Windlass.",
            hint=f'Add it, or set {conf.SETTING}["TASKS_ALIAS"] or ["BACKEND"].',
            obj=conf.SETTING,
            id="windlass.processes.E002",
        )
        return
    queues = engine.options(alias).queues
    if queues and options.queue not in queues:
        yield Error(
            f'Processes run on the queue "{options.queue}", which QUEUES of '
            f'TASKS["{alias}"] does not have, so none can be started.',
            hint=f'Add "{options.queue}" to QUEUES, or set QUEUES to [] for all.',
            obj=conf.SETTING,
            id="windlass.processes.E003",
        )
