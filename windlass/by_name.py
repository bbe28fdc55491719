"""Jobs created by the dotted name of what they call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from windlass.backend import WindlassBackend
from windlass.exceptions import EnqueueError
from windlass.jobs import by_name
from windlass.jobs.by_name import NamedFunction
from windlass.models import Job
from windlass.task import Task, as_moment
from windlass.tasks_api import DEFAULT_TASK_BACKEND_ALIAS as DEFAULT
from windlass.tasks_api import (
    DEFAULT_TASK_PRIORITY,
    DEFAULT_TASK_QUEUE_NAME,
    task_backends,
)
from windlass.tasks_api import Task as AnyTask
from windlass.twins import twin

# Seconds that an attempt may run if nobody says otherwise.
TIMEOUT = 300


def create_task(
    name: str,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    timeout: float | timedelta | None = TIMEOUT,
    *,
    queue_name: str = DEFAULT_TASK_QUEUE_NAME,
    priority: int = DEFAULT_TASK_PRIORITY,
    run_after: datetime | timedelta | None = None,
    max_attempts: int | None = None,
    backend_alias: str = DEFAULT,
) -> Job:
    """
    Enqueue a call of a function by its dotted name, in the caller's transaction.

    ``name`` leads to a task, or to a plain function defined in a module of an
    installed app (``OPTIONS["task_modules"]`` narrows or widens that). An attempt is
    ended after ``timeout`` seconds; None and 0 mean 300. What is left at its default
    is as the ``@task`` of a decorated function says. Gives back the stored job.

    Raises EnqueueError, with nothing stored, for a name that leads to no such
    function, arguments that are not JSON, and options that make no sense.
    """
    backend = task_backends[backend_alias]
    if not isinstance(backend, WindlassBackend):
        raise EnqueueError(
            f"create_task({name!r}) needs a backend of Windlass, and {backend_alias!r} "
            f"is a {type(backend).__qualname__}. Nothing was stored."
        )
    found = by_name.find(name, backend.configuration.task_modules)
    said = {"queue_name": queue_name, "priority": priority, "run_after": run_after}
    said |= {"max_attempts": max_attempts, "timeout": timeout or TIMEOUT}
    task = task_of(found, {"backend": backend_alias, **_changes(found, said)})
    given = ([] if args is None else args, {} if kwargs is None else kwargs)
    # As it was stored: after the commit a worker may have run it, or it may be gone.
    with transaction.atomic(using=backend.database):
        result = backend.enqueue(task, *given)
        return Job.objects.using(backend.database).get(pk=result.id)


acreate_task = twin(create_task)


def _changes(found: Any, said: dict[str, Any]) -> dict[str, Any]:
    defaults = {
        "queue_name": DEFAULT_TASK_QUEUE_NAME,
        "priority": DEFAULT_TASK_PRIORITY,
        "timeout": TIMEOUT,
    }
    changes = {
        name: as_moment(value) if name == "run_after" else value
        for name, value in said.items()
        if value != defaults.get(name)
    }
    if getattr(found, "timeout", None) is None:
        changes["timeout"] = said["timeout"]
    return changes


def task_of(found: Any, said: dict[str, Any]) -> Any:
    """What a name leads to, as a task with what was said beside its own."""
    if isinstance(found, Task):
        return replace(found, **said)
    if isinstance(found, AnyTask):
        # A task that Django's own decorator made knows no policies.
        own = ("func", "priority", "queue_name", "run_after", "takes_context")
        return Task(**{**{name: getattr(found, name) for name in own}, **said})
    return NamedFunction(**{"func": found, "run_after": None, **said})
