"""
From the path that a job was stored with to its task, as the job was enqueued.

A path may lead nowhere any more, or to something that is no task: such a job fails
alone when it is run, and stays readable.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from inspect import iscoroutinefunction
from typing import Any, NoReturn

from django.utils.module_loading import import_string

from windlass.db import Claimed
from windlass.exceptions import RefusedTask
from windlass.jobs import by_name
from windlass.jobs.by_name import NamedFunction
from windlass.models import Job
from windlass.tasks_api import Task

put = object.__setattr__
# In the policy of a job that calls a plain function.
BY_NAME = '"by_name"'
# In the policy of a job with several steps: the place of the present one.
STEP = '"step":'


def resolve(path: str) -> Task:
    """
    Import a task by its path, or raise RefusedTask if there is no such task.

    ``=`` before the path says that it leads to a plain function, and ``>`` that it is
    a step, so either.
    """
    if path.startswith("="):
        return _stand_in(by_name.load(path[1:]))
    if path.startswith(">"):
        found = by_name.load_step(path[1:])
        return found if isinstance(found, Task) else _stand_in(found)
    try:
        task = import_string(path)
    except BaseException as error:
        # Importing runs the user's module, so anything may be raised here, even an
        # exit; it says that this job cannot run, and must not end its worker.
        raise RefusedTask(f"There is no task {path!r} to run: {error}") from error
    if not isinstance(task, Task):
        raise RefusedTask(
            f"{path!r} is not a task, so it was not run. Decorate it with @task."
        )
    return task


def call_of(job: Job) -> str:
    """What ``resolve`` is to be asked for a stored job."""
    policy = job.policy or {}
    if "step" in policy:
        return f">{job.task_path}"
    return f"={job.task_path}" if policy.get("by_name") else job.task_path


def resolve_call(job: Claimed) -> Task:
    """Import what a claimed job calls, or raise RefusedTask if there is no such."""
    return resolve(job.task_path if job.policy is None else _called(job, job.policy))


# Tasks by what is called, and the paths of those that are special in where and how
# they run. What could not be resolved is tried again each time.
_tasks: dict[str, Task] = {}
_coroutines: set[str] = set()
_on_loop: set[str] = set()
_in_process: set[str] = set()


def find(job: Claimed) -> Task | None:
    """What a job calls, resolved once; None if there is no such task."""
    path = call = job.task_path
    if job.policy is not None:
        call = _called(job, job.policy)
    task = _tasks.get(call)
    if task is None:
        try:
            task = _tasks[call] = resolve(call)
        except RefusedTask:
            return None
        executor = getattr(task, "executor", None)
        if iscoroutinefunction(task.func):
            _coroutines.add(path)
            if executor in (None, "async"):
                _on_loop.add(path)
        if executor == "process":
            _in_process.add(path)
    return task


def _called(job: Claimed, policy: str) -> str:
    if STEP in policy:
        return f">{job.task_path}"
    return f"={job.task_path}" if BY_NAME in policy else job.task_path


def is_coroutine(path: str) -> bool:
    """Whether a path's task is a coroutine function; it must have been found."""
    return path in _coroutines


def runs_on_loop(job: Claimed) -> bool:
    """Whether a job runs on the event loop; False if there is no such task."""
    if job.task_path not in _tasks:
        find(job)
    return job.task_path in _on_loop


def runs_in_process(path: str) -> bool:
    """Whether a path's task runs in a process of its own; it must have been found."""
    return path in _in_process


def forget() -> None:
    """Resolve every path anew, as a new process would."""
    for known in (_tasks, _coroutines, _on_loop, _in_process):
        known.clear()


def task_for(
    path: str,
    backend: str,
    queue_name: str,
    priority: int,
    run_after: datetime | None = None,
    metadata: dict[str, Any] | None = None,
) -> Task:
    """The task of a stored job, with the job's own queue, priority and time."""
    try:
        task = resolve(path)
    except RefusedTask:
        task = missing(path)
    return with_call(task, backend, queue_name, priority, run_after, metadata)


def with_call(
    task: Task,
    backend: str,
    queue_name: str,
    priority: int,
    run_after: datetime | None = None,
    metadata: dict[str, Any] | None = None,
) -> Task:
    """A copy of a task as one job was enqueued, not validated a second time."""
    if run_after is None and metadata is None:
        found = (task.backend, task.queue_name, task.priority, task.run_after)
        if found == (backend, queue_name, priority, None):
            return task
        return _cached_copy(task, backend, queue_name, priority)
    copy = copy_task(task, backend, queue_name, priority)
    put(copy, "run_after", run_after)
    if metadata is not None and hasattr(copy, "metadata"):
        put(copy, "metadata", metadata)
    return copy


def copy_task(task: Task, backend: str, queue_name: str, priority: int) -> Task:
    """A copy of a task with another backend, queue and priority, and no time."""
    copy = object.__new__(type(task))
    for name in type(task).__dataclass_fields__:
        put(copy, name, getattr(task, name))
    put(copy, "backend", backend)
    put(copy, "queue_name", queue_name)
    put(copy, "priority", priority)
    put(copy, "run_after", None)
    return copy


@lru_cache(maxsize=1024)
def _cached_copy(task: Task, backend: str, queue_name: str, priority: int) -> Task:
    return copy_task(task, backend, queue_name, priority)


def missing(path: str) -> Task:
    """A stand-in for a task whose code is gone: its results stay readable."""

    def gone(*args: Any, **kwargs: Any) -> NoReturn:
        raise RefusedTask(f"There is no task {path!r} any more.")

    gone.__module__, _dot, gone.__qualname__ = path.lstrip("=>").rpartition(".")
    gone.__name__ = gone.__qualname__
    return _stand_in(gone)


def _stand_in(function: Callable[..., Any]) -> Task:
    task = object.__new__(NamedFunction)
    defaults = {
        "func": function,
        "priority": 0,
        "backend": "default",
        "queue_name": "default",
        "run_after": None,
        "takes_context": False,
        **dict.fromkeys(("timeout", "max_attempts", "metadata")),
    }
    for name, value in defaults.items():
        put(task, name, value)
    return task
