"""
Run one claimed job: resolve its task, call it, decide the outcome.

Whatever the task does, one Outcome comes back: the move to record, the result to
announce, and the error if there was one. Nothing here writes to the database, so
nothing here can be half done. What was recorded is then told by ``announcing``.

A result is only made for somebody who will see it: a receiver, a context, a caller.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from django.conf import settings
from django.utils import timezone

from windlass.db import Claimed
from windlass.exceptions import RefusedTask
from windlass.jobs import announcing, attempts, lifecycle, resolving, results
from windlass.jobs.arguments import dump_result
from windlass.jobs.context import JobContext
from windlass.jobs.lifecycle import Attempt, Move
from windlass.jobs.resolving import put
from windlass.jobs.results import JobResult
from windlass.jobs.retries import (
    Backoff,
    Cancel,
    Control,
    Snooze,
    delay_after,
    may_retry,
)
from windlass.models.jobs import Reason
from windlass.signals import heard
from windlass.tasks_api import (
    Task,
    TaskError,
    TaskResultStatus,
    task_finished,
    task_started,
)

logger = logging.getLogger("windlass")


@dataclass(frozen=True, slots=True)
class Executor:
    """Whose jobs these are: the node that holds them and the backend they came by."""

    node: int
    database: str
    backend: type
    backoff: Backoff = None
    clock: Callable[[], float] = time.time
    # Told just before the first line of the task: from here on it has started.
    begin: Callable[[Claimed], object] = lambda job: None
    # Whether the caller looks at results, or only signals and contexts show them.
    shows_results: bool = True
    use_tz: bool = field(default_factory=lambda: settings.USE_TZ)

    def moment(self, seconds: float) -> datetime:
        """A moment given in seconds since the epoch, as this project writes times."""
        aware = datetime.fromtimestamp(seconds, UTC)
        return aware if self.use_tz else timezone.make_naive(aware)

    def context(self, job: Claimed, result: JobResult) -> JobContext:
        """What a task that takes its context is given."""
        return JobContext(
            task_result=result, job=job, node=self.node, database=self.database
        )


class Outcome(NamedTuple):
    """What became of an attempt, to be recorded and then announced."""

    move: Move
    # None if the attempt succeeded and nobody wanted to see it.
    result: JobResult | None
    error: BaseException | None = None


def run(job: Claimed, executor: Executor) -> Outcome:
    """Run a job in the calling thread; no error of its task gets out."""
    started = executor.clock()
    task, result = _start(job, executor, started)
    try:
        if task is None:
            task = resolving.resolve(job.task_path)
        args, kwargs = _arguments(job, task, result, executor)
        # Only what nobody can put on an event loop goes the long way round.
        call = task.call if resolving.is_async(job.task_path) else task.func
        executor.begin(job)
        value = call(*args, **kwargs)
        text = dump_result(value)
    except BaseException as error:  # noqa: BLE001 - it is the outcome
        return _failed(job, task, result, error, executor, started)
    return _succeeded(job, result, value, text, executor, started)


async def arun(job: Claimed, executor: Executor) -> Outcome:
    """Run a coroutine task on the running event loop; see ``run``."""
    started = executor.clock()
    task, result = _start(job, executor, started)
    try:
        if task is None:
            task = resolving.resolve(job.task_path)
        args, kwargs = _arguments(job, task, result, executor)
        executor.begin(job)
        value = await task.func(*args, **kwargs)
        text = dump_result(value)
    except BaseException as error:  # noqa: BLE001 - it is the outcome
        return _failed(job, task, result, error, executor, started)
    return _succeeded(job, result, value, text, executor, started)


def _start(
    job: Claimed, executor: Executor, started: float
) -> tuple[Task | None, JobResult | None]:
    task = resolving.find(job.task_path)
    shown = executor.shows_results or heard(task_started) or heard(task_finished)
    if not shown and task is not None and not task.takes_context:
        return task, None
    result = _result(job, task, executor, started)
    if heard(task_started):
        announcing.tell(task_started, result, executor)
    return task, result


def _result(
    job: Claimed, task: Task | None, executor: Executor, started: float
) -> JobResult:
    called = resolving.with_call(
        task or resolving.missing(job.task_path),
        job.backend_alias,
        job.queue_name,
        -job.nice,
    )
    return results.of_claimed(job, called, executor.node, executor.moment(started))


def _arguments(
    job: Claimed, task: Task, result: JobResult | None, executor: Executor
) -> tuple[list[Any], dict[str, Any]]:
    if result is None:
        kwargs = json.loads(job.kwargs) if job.kwargs != "{}" else {}
        return json.loads(job.args), kwargs
    if not task.takes_context:
        return result.args, result.kwargs
    return [executor.context(job, result), *result.args], result.kwargs


def _succeeded(
    job: Claimed,
    result: JobResult | None,
    value: Any,
    text: str | None,
    executor: Executor,
    started: float,
) -> Outcome:
    ended = executor.clock()
    move = lifecycle.complete(Attempt(job, executor.node, started, ended), text)
    if result is not None:
        put(result, "_return_value", value)
        moment = executor.moment(ended)
        _close(result, TaskResultStatus.SUCCESSFUL, "succeeded", "", moment)
    return Outcome(move, result)


def _failed(
    job: Claimed,
    task: Task | None,
    result: JobResult | None,
    error: BaseException,
    executor: Executor,
    started: float,
) -> Outcome:
    if result is None:
        result = _result(job, task, executor, started)
    attempt = Attempt(job, executor.node, started, executor.clock())
    moment = executor.moment(attempt.ended)
    if isinstance(error, Snooze):
        put(result, "status", TaskResultStatus.READY)
        put(result, "state", "scheduled")
        result.worker_ids.pop()
        return Outcome(lifecycle.snooze(attempt, error.delay), result, error)
    cause = Reason.REFUSED if isinstance(error, RefusedTask) else Reason.ERROR
    if isinstance(error, Cancel):
        entry = attempts.describe(attempt, Reason.CANCELLED, error)
        _close(result, TaskResultStatus.FAILED, "cancelled", "cancelled", moment)
        move: Move = lifecycle.cancel_running(attempt, entry)
    else:
        entry = attempts.describe(attempt, cause, error)
        retry_in = _retry_in(attempt, task, result, error, executor.backoff)
        move = lifecycle.fail(attempt, entry, retry_in=retry_in)
        if retry_in is None:
            _close(result, TaskResultStatus.FAILED, "failed", str(cause), moment)
        else:
            put(result, "status", TaskResultStatus.READY)
            put(result, "state", "scheduled")
    result.errors.append(
        TaskError(exception_class_path=entry["error"], traceback=entry["traceback"])
    )
    return Outcome(move, result, error)


def unstorable(
    job: Claimed, outcome: Outcome, error: BaseException, executor: Executor
) -> Outcome:
    """What becomes of a job whose outcome the database refuses: it fails."""
    result = outcome.result
    if result is not None:
        put(result, "_return_value", None)
    return _failed(job, None, result, error, executor, executor.clock())


def _retry_in(
    attempt: Attempt,
    task: Task | None,
    result: JobResult,
    error: BaseException,
    backoff: Backoff,
) -> float | None:
    if task is None or attempt.job.attempts >= attempt.job.max_attempts:
        return None
    if not isinstance(error, Control) and not may_retry(task, error):
        return None
    own = getattr(task, "backoff", None)
    return delay_after(backoff if own is None else own, error, result)


def _close(
    result: JobResult,
    status: TaskResultStatus,
    state: str,
    reason: str,
    moment: datetime,
) -> None:
    put(result, "status", status)
    put(result, "state", state)
    put(result, "reason", reason)
    put(result, "finished_at", moment)
