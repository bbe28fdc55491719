"""Django's system checks of the app ``windlass.processes``."""

from __future__ import annotations

from collections.abc import Iterator
from subprocess import TimeoutExpired
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, Warning, register

from windlass.exceptions import ConfigurationError
from windlass.processes import conf
from windlass.processes.conf import ProcessOptions
from windlass.processes.lines import log_model
from windlass.processes.sandbox import launching, runtimes
from windlass.processes.sandbox.bundles import Unsafe
from windlass.processes.sandbox.launching import SandboxFailed
from windlass.processes.sandbox.runtimes import INSTALL, NoRuntime
from windlass.processes.settling import process_models

NO_SANDBOX = "windlass.processes.E004"
HINT = "Run the command by hand, or see the guide to sandboxes for what hosts refuse."


@register(Tags.models)
def check_processes(**kwargs: Any) -> list[CheckMessage]:
    """Check the setting, that each process has a log, and what the backend checks."""
    return list(_messages())


@register(Tags.models, deploy=True)
def check_sandbox(**kwargs: Any) -> list[CheckMessage]:
    """Start a sandbox. That takes a moment, so only ``check --deploy`` does it."""
    try:
        options = conf.options()
        if options.executor == "sandbox":
            launching.probe(options)
    except ConfigurationError:
        # The other check says so.
        return []
    except (SandboxFailed, Unsafe, OSError, TimeoutExpired) as error:
        return [Error(str(error), hint=HINT, obj=conf.SETTING, id=NO_SANDBOX)]
    return []


def _sandbox(options: ProcessOptions) -> Iterator[CheckMessage]:
    try:
        runtimes.find(options)
    except NoRuntime as error:
        yield Error(str(error), hint=INSTALL, obj=conf.SETTING, id=NO_SANDBOX)
    if not getattr(conf.backend(), "has_executors", False):
        yield Warning(
            f"Processes are to run in a sandbox, and {type(conf.backend()).__name__} "
            "runs them in a process of its own, without one.",
            hint=f'Remove {conf.SETTING}["BACKEND"], or do not set "EXECUTOR".',
            obj=conf.SETTING,
            id="windlass.processes.W002",
        )


def _messages() -> Iterator[CheckMessage]:
    try:
        options, backend = conf.options(), conf.backend()
    except ConfigurationError as error:
        yield Error(str(error), obj=conf.SETTING, id="windlass.processes.E001")
        return
    if options.executor == "sandbox":
        yield from _sandbox(options)
    for model in process_models():
        try:
            log_model(model)
        except ConfigurationError as error:
            yield Warning(str(error), obj=model, id="windlass.processes.W001")
    check = getattr(backend, "check", None)
    if check is not None:
        yield from check()
