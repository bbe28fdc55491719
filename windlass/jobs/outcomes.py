"""
What became of an attempt: the move to record, and the result for whoever looks.

An Outcome is a value. Making one writes nothing, so nothing here can be half done. A
result is only made for somebody who will see it: a receiver, a context, a caller.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from django.conf import settings
from django.utils import timezone

from windlass.db import Advanced, Claimed, Ended, Returned
from windlass.exceptions import JobCancelled, JobTimeout, RefusedTask, StepError
from windlass.jobs import attempts, lifecycle, resolving, results
from windlass.jobs.lifecycle import Attempt, Move
from windlass.jobs.policies import with_budget
from windlass.jobs.resolving import put
from windlass.jobs.results import JobResult
from windlass.jobs.retries import (
    Backoff,
    Cancel,
    Control,
    Snooze,
    Suspended,
    delay_after,
    may_retry,
)
from windlass.models.history import errors_of
from windlass.models.jobs import Reason
from windlass.signals import heard
from windlass.tasks_api import Task, TaskError, TaskResultStatus, task_finished


def _nothing(job: Claimed) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Executor:
    """Whose jobs these are: the node that holds them and the backend they came by."""

    node: int
    database: str
    backend: type
    backoff: Backoff = None
    # Of a plain function whose job does not say.
    max_attempts: int = 1
    clock: Callable[[], float] = time.time
    # Told just before the first line of the task: from here on it has started.
    begin: Callable[[Claimed], object] = _nothing
    # Told when the task's code has ended, however; raises what had stopped it.
    done: Callable[[Claimed], object] = _nothing
    # Whether a task is asked to come to an end soon.
    stop_asked: Callable[[Claimed], bool] = lambda job: False
    # Whether the caller looks at results, or only signals and contexts show them.
    shows_results: bool = True
    use_tz: bool = field(default_factory=lambda: settings.USE_TZ)

    def moment(self, seconds: float) -> datetime:
        """A moment given in seconds since the epoch, as this project writes times."""
        aware = datetime.fromtimestamp(seconds, UTC)
        return aware if self.use_tz else timezone.make_naive(aware)


class Outcome(NamedTuple):
    """What became of an attempt, to be recorded and then announced."""

    move: Move
    # None if the attempt succeeded and nobody wanted to see it.
    result: JobResult | None
    error: BaseException | None = None
    # Whether the move was written already, with what the task itself wrote.
    recorded: bool = False


def running(
    job: Claimed, task: Task | None, executor: Executor, started: float
) -> JobResult:
    """The result of a job whose attempt began at this moment."""
    called = resolving.with_call(
        task or resolving.missing(job.task_path),
        job.backend_alias,
        job.queue_name,
        -job.nice,
    )
    return results.of_claimed(job, called, executor.node, executor.moment(started))


def succeeded(
    job: Claimed,
    result: JobResult | None,
    value: Any,
    text: str | None,
    executor: Executor,
    started: float,
) -> Outcome:
    """The outcome of an attempt that did what it should."""
    ended = executor.clock()
    move = lifecycle.complete(Attempt(job, executor.node, started, ended), text)
    if result is not None:
        put(result, "_return_value", value)
        moment = executor.moment(ended)
        _close(result, TaskResultStatus.SUCCESSFUL, "succeeded", "", moment)
    return Outcome(move, result)


def advanced(outcome: Outcome, move: Advanced) -> Outcome:
    """The same outcome for a job that has another step to go."""
    if outcome.result is not None:
        put(outcome.result, "finished_at", None)
        _wait(outcome.result, "ready")
    return outcome._replace(move=move)


def failed(
    job: Claimed,
    error: BaseException,
    executor: Executor,
    started: float,
    *,
    result: JobResult | None = None,
    may_repeat: bool = True,
) -> Outcome:
    """The outcome of an attempt that came to an error, by the task's policies."""
    task = resolving.find(job)
    if result is None:
        result = running(job, task, executor, started)
    put(result, "_return_value", None)
    attempt = Attempt(job, executor.node, started, executor.clock())
    moment = executor.moment(attempt.ended)
    if isinstance(error, Snooze | Suspended):
        _wait(result)
        result.worker_ids.pop()
        back = lifecycle.snooze(attempt, error.delay, awaits=error.awaits)
        return Outcome(back, result, error)
    if isinstance(error, Cancel | JobCancelled):
        entry = attempts.describe(attempt, Reason.CANCELLED, error)
        _close(result, TaskResultStatus.FAILED, "cancelled", "cancelled", moment)
        move: Move = lifecycle.cancel_running(attempt, entry)
    else:
        cause = _cause(error)
        entry = attempts.describe(attempt, cause, error)
        retry_in = None
        if may_repeat:
            retry_in = _retry_in(job, task, result, error, executor)
        move = lifecycle.fail(attempt, entry, retry_in=retry_in)
        if retry_in is None:
            _close(result, TaskResultStatus.FAILED, "failed", str(cause), moment)
        else:
            _wait(result)
    result.errors.append(
        TaskError(exception_class_path=entry["error"], traceback=entry["traceback"])
    )
    return Outcome(move, result, error)


def _cause(error: BaseException) -> Reason:
    if isinstance(error, RefusedTask):
        return Reason.REFUSED
    return Reason.TIMEOUT if isinstance(error, JobTimeout) else Reason.ERROR


def _retry_in(
    job: Claimed,
    task: Task | None,
    result: JobResult,
    error: BaseException,
    executor: Executor,
) -> float | None:
    budget = with_budget(job, executor.max_attempts).max_attempts
    if task is None or job.attempts >= budget:
        return None
    if isinstance(error, StepError):
        # The same code would come to the same end.
        return None
    if not isinstance(error, Control) and not may_retry(task, error):
        return None
    own = getattr(task, "backoff", None)
    return delay_after(executor.backoff if own is None else own, error, result)


def discarded(job: Claimed, reason: str, executor: Executor, now: float) -> Outcome:
    """The outcome of a job that must not start any more."""
    result = running(job, resolving.find(job), executor, now)
    result.worker_ids.clear()
    put(result, "started_at", None)
    put(result, "last_attempted_at", None)
    moment = executor.moment(now)
    _close(result, TaskResultStatus.SUCCESSFUL, "discarded", str(reason), moment)
    return Outcome(lifecycle.expire(job, now=now, reason=reason), result)


def adopted(job: Claimed, move: Move, executor: Executor, started: float) -> Outcome:
    """The outcome of an attempt that another process ran, from the move it decided."""
    is_quiet = not (executor.shows_results or heard(task_finished))
    if isinstance(move, Ended) and move.state == "succeeded" and is_quiet:
        return Outcome(move, None)
    result = running(job, resolving.find(job), executor, started)
    history = json.loads(move.history) if move.history else []
    put(result, "errors", errors_of(history))
    if isinstance(move, Advanced):
        return advanced(Outcome(move, result), move)
    if isinstance(move, Returned):
        _wait(result)
        snooze = Snooze(move.delay) if move.attempt_back else None
        return Outcome(move, result, snooze)
    is_success = move.state in ("succeeded", "discarded")
    status = TaskResultStatus.SUCCESSFUL if is_success else TaskResultStatus.FAILED
    if move.return_value is not None:
        put(result, "_return_value", json.loads(move.return_value))
    moment = executor.moment(move.finished_at)
    _close(result, status, move.state, move.reason, moment)
    return Outcome(move, result)


def _wait(result: JobResult, state: str = "scheduled") -> None:
    put(result, "status", TaskResultStatus.READY)
    put(result, "state", state)


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
