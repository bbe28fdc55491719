"""
Django's TaskResult for a job, built fast and read back whole.

A result is made several times in a job's life, so the hot paths fill its slots
directly: the dataclass's own constructor would normalise JSON that we made
ourselves. What Django's result cannot say (``state``, ``reason``, ``metadata``,
``progress``) stands beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import total_ordering
from typing import Any

from windlass.db import Claimed, NewJob
from windlass.jobs.resolving import call_of, copy_task, put, task_for
from windlass.models.history import errors_of, worker_id, workers_of
from windlass.models.jobs import State
from windlass.models.view import Job
from windlass.tasks_api import (
    TASK_REFRESH_ATTRS,
    Task,
    TaskResult,
    TaskResultStatus,
)

STATUS = {
    State.SCHEDULED.value: TaskResultStatus.READY,
    State.BLOCKED.value: TaskResultStatus.READY,
    State.READY.value: TaskResultStatus.READY,
    State.RUNNING.value: TaskResultStatus.RUNNING,
    State.SUCCEEDED.value: TaskResultStatus.SUCCESSFUL,
    State.FAILED.value: TaskResultStatus.FAILED,
    State.CANCELLED.value: TaskResultStatus.FAILED,
    State.DISCARDED.value: TaskResultStatus.SUCCESSFUL,
}
OURS = ("state", "reason", "metadata", "progress")
# Values that JSON gives back as they are.
PLAIN = frozenset({str, int, bool, type(None)})


@total_ordering
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JobResult(TaskResult):  # type: ignore[misc]  # frozen, only not in its stub
    """The result of a job: Django's, with the job's own state beside it."""

    state: str = State.READY.value
    reason: str = ""
    metadata: dict[str, Any] | None = field(default=None)
    progress: dict[str, Any] | None = field(default=None)

    def refresh(self) -> None:
        """Reload everything the database knows about the job into this result."""
        _copy(self, self.task.get_backend().get_result(self.id))

    async def arefresh(self) -> None:
        """See ``refresh``."""
        _copy(self, await self.task.get_backend().aget_result(self.id))

    def __hash__(self) -> int:
        return hash(self.id)

    def __lt__(self, other: object) -> bool:
        """Order by age: ids rise with time."""
        if not isinstance(other, TaskResult):
            return NotImplemented
        return self.id < other.id


def _copy(result: JobResult, fresh: Any) -> None:
    for name in (*TASK_REFRESH_ATTRS, *OURS):
        put(result, name, getattr(fresh, name))


class _Open(JobResult):
    """A result that is being made: ordinary assignment, several times as fast."""

    __slots__ = ()
    __setattr__ = object.__setattr__


def make(
    task: Task, id: str, args: list[Any], kwargs: dict[str, Any], enqueued_at: datetime
) -> JobResult:
    """Make the result of a job that has just been enqueued."""
    # Typed loosely: it is frozen to everybody else.
    result: Any = _Open.__new__(_Open)
    result.task = task
    result.id = id
    result.status = TaskResultStatus.READY
    result.enqueued_at = enqueued_at
    result.started_at = None
    result.finished_at = None
    result.last_attempted_at = None
    result.args = args
    result.kwargs = kwargs
    result.backend = task.backend
    result.errors = []
    result.worker_ids = []
    result._return_value = None
    result.state = "ready"
    result.reason = ""
    result.metadata = None
    result.progress = None
    result.__class__ = JobResult
    made: JobResult = result
    return made


def of_new(
    task: Task,
    job: NewJob,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    enqueued_at: datetime,
) -> JobResult:
    """
    Make the result of a job that was stored a moment ago.

    It carries what JSON makes of the arguments, so it equals the one read back later.
    """
    for value in args:
        if type(value) not in PLAIN:
            args = json.loads(job.args)
            break
    called = json.loads(job.kwargs) if kwargs else {}
    result = make(task, job.id, list(args), called, enqueued_at)
    if job.metadata is not None:
        put(result, "metadata", json.loads(job.metadata))
    if job.run_after is not None:
        if job.run_after > enqueued_at:
            put(result, "state", "scheduled")
        else:
            # A time that had passed is not stored: such a job was simply ready.
            now = copy_task(task, task.backend, task.queue_name, task.priority)
            put(result, "task", now)
    return result


def of_claimed(job: Claimed, task: Task, node: int, started_at: datetime) -> JobResult:
    """Make the result of a job whose attempt starts now."""
    args = json.loads(job.args)
    kwargs = json.loads(job.kwargs) if job.kwargs != "{}" else {}
    result = make(task, job.id, args, kwargs, job.enqueued_at)
    put(result, "status", TaskResultStatus.RUNNING)
    put(result, "state", "running")
    put(result, "started_at", started_at)
    put(result, "last_attempted_at", started_at)
    if job.history is None:
        put(result, "worker_ids", [worker_id(node)])
    else:
        history = json.loads(job.history)
        put(result, "worker_ids", workers_of(history, job.attempts, node))
        put(result, "errors", errors_of(history))
        put(result, "started_at", _first_start(history, started_at))
    if job.metadata is not None:
        put(result, "metadata", json.loads(job.metadata))
    return result


def of_job(job: Job) -> JobResult:
    """Make the result of a job as the database knows it."""
    history = job.history or []
    scheduled = job.run_after if job.run_after != job.enqueued_at else None
    task = task_for(
        call_of(job),
        job.backend_alias,
        job.queue_name,
        job.priority,
        scheduled,
        job.metadata,
    )
    result = make(task, str(job.pk), job.args, job.kwargs, job.enqueued_at)
    put(result, "status", STATUS[job.state])
    put(result, "state", job.state)
    put(result, "reason", job.reason)
    last = job.started_at or _last_start(history)
    put(result, "started_at", _first_start(history, last))
    put(result, "last_attempted_at", last)
    put(result, "finished_at", job.finished_at)
    put(result, "worker_ids", job.worker_ids)
    put(result, "errors", job.errors)
    put(result, "_return_value", job.return_value)
    put(result, "metadata", job.metadata)
    put(result, "progress", job.progress)
    return result


def _first_start(
    history: list[dict[str, Any]], last: datetime | None
) -> datetime | None:
    return datetime.fromisoformat(history[0]["started_at"]) if history else last


def _last_start(history: list[dict[str, Any]]) -> datetime | None:
    return datetime.fromisoformat(history[-1]["started_at"]) if history else None
