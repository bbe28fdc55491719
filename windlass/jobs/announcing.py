"""
Telling the signals' receivers what became of an attempt, after it was recorded.

Receivers are users' code: whatever one does, the job, its worker and the other
receivers go on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from django.dispatch import Signal

from windlass.db import Advanced, Dialect
from windlass.jobs.results import JobResult, of_job
from windlass.jobs.retries import Snooze, Suspended
from windlass.models import Job
from windlass.signals import (
    heard,
    job_advanced,
    job_cancelled,
    job_discarded,
    job_retried,
    job_snoozed,
)
from windlass.tasks_api import TaskResultStatus, task_backends, task_finished

if TYPE_CHECKING:
    from windlass.jobs.outcomes import Executor, Outcome

logger = logging.getLogger("windlass")


def announce(outcome: Outcome, executor: Executor) -> None:
    """Tell the signals' receivers about an outcome that has been recorded."""
    result, error = outcome.result, outcome.error
    if result is None:
        return
    if result.state == "discarded":
        tell(job_discarded, result, executor)
    elif result.status == TaskResultStatus.SUCCESSFUL:
        if heard(task_finished):
            tell(task_finished, result, executor)
    elif type(outcome.move) is Advanced:
        tell(job_advanced, result, executor)
    elif result.status == TaskResultStatus.READY:
        signal = job_snoozed if isinstance(error, Snooze | Suspended) else job_retried
        tell(signal, result, executor)
    else:
        _announce_failure(result, error, executor)


def discarded(db: Dialect, backend_alias: str, ids: Iterable[str]) -> None:
    """Tell the receivers of ``job_discarded`` about jobs that someone threw away."""
    if not job_discarded.receivers:
        return
    sender = type(task_backends[backend_alias])
    for job in Job.objects.using(db.database).filter(pk__in=ids):
        job_discarded.send_robust(sender=sender, task_result=of_job(job))


def _announce_failure(
    result: JobResult, error: BaseException | None, executor: Executor
) -> None:
    try:
        # Django's own receiver logs the exception that is being handled.
        if error is not None:
            raise error
    except BaseException:  # noqa: BLE001 - it was recorded; only its log line is due
        tell(task_finished, result, executor)
    if result.state == "cancelled":
        tell(job_cancelled, result, executor)


def tell(signal: Signal, result: JobResult, executor: Executor) -> None:
    """Send a signal to whoever listens; nothing a receiver does gets out."""
    try:
        signal.send_robust(sender=executor.backend, task_result=result)
    except BaseException:
        # Robust is Django's word for errors; a receiver can also call sys.exit().
        logger.exception("Job %s: a receiver tried to end the process.", result.id)
