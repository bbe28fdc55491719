"""
What a project calls: plain functions over the rules, named for what they do.

Each works on the backend alias it is given, ``"default"`` unless said otherwise, and
on the database of that backend. Ids may be text in any spelling, or UUIDs.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils.timezone import is_naive

from windlass import conf, db
from windlass.bulk import (
    adiscard_blocked_jobs,
    adiscard_failed_jobs,
    adiscard_ready_jobs,
    adiscard_scheduled_jobs,
    aretry_failed_jobs,
    discard_blocked_jobs,
    discard_failed_jobs,
    discard_ready_jobs,
    discard_scheduled_jobs,
    retry_failed_jobs,
)
from windlass.by_hand import (
    ClaimedJob,
    aclaim_ready_jobs,
    aexecute_claimed_job,
    claim_ready_jobs,
    execute_claimed_job,
)
from windlass.by_name import acreate_task, create_task
from windlass.db import Dialect, memos
from windlass.events import asend_event, send_event
from windlass.exceptions import EnqueueError, StaleJob, UndiscardableError
from windlass.jobs import cancelling, lifecycle, resolving
from windlass.jobs.results import JobResult
from windlass.models import EndedJob, Job, State
from windlass.models.view import parse_id
from windlass.queue_info import QueueInfo
from windlass.recurring import (
    apause_recurring_task,
    aresume_recurring_task,
    aschedule_recurring_task,
    aunschedule_recurring_task,
    pause_recurring_task,
    resume_recurring_task,
    schedule_recurring_task,
    unschedule_recurring_task,
)
from windlass.task import as_moment
from windlass.tasks_api import DEFAULT_TASK_BACKEND_ALIAS as DEFAULT
from windlass.twins import twin
from windlass.waiting import await_for_completion, wait_for_completion

__all__ = [
    "ClaimedJob",
    "QueueInfo",
    "acancel_job",
    "aclaim_ready_jobs",
    "acreate_task",
    "adiscard_blocked_jobs",
    "adiscard_failed_job",
    "adiscard_failed_jobs",
    "adiscard_ready_jobs",
    "adiscard_scheduled_jobs",
    "aenqueue_copy",
    "aexecute_claimed_job",
    "apause_recurring_task",
    "aresume_recurring_task",
    "aretry_failed_job",
    "aretry_failed_jobs",
    "arun_now",
    "aschedule_failed_job_retry",
    "aschedule_recurring_task",
    "asend_event",
    "aunschedule_recurring_task",
    "await_for_completion",
    "cancel_job",
    "claim_ready_jobs",
    "create_task",
    "discard_blocked_jobs",
    "discard_failed_job",
    "discard_failed_jobs",
    "discard_ready_jobs",
    "discard_scheduled_jobs",
    "enqueue_copy",
    "enqueue_on_commit",
    "execute_claimed_job",
    "pause_recurring_task",
    "resume_recurring_task",
    "retry_failed_job",
    "retry_failed_jobs",
    "run_now",
    "schedule_failed_job_retry",
    "schedule_recurring_task",
    "send_event",
    "unschedule_recurring_task",
    "wait_for_completion",
]


def enqueue_on_commit(task: Any, /, *args: Any, **kwargs: Any) -> None:
    """
    Enqueue a task when the transaction of its backend's database commits.

    All arguments are the task's own; options go to ``task.using(...)``. The call is
    checked and its arguments are copied now, so an EnqueueError is raised here, and
    a rollback, of a savepoint too, means that nothing is enqueued. Outside a
    transaction the job is stored at once.
    """
    later = getattr(task.get_backend(), "enqueue_on_commit", None)
    if later is None:
        raise EnqueueError(
            f"{task.module_path} cannot be enqueued on commit: its backend, "
            f"{task.backend!r}, is not one of Windlass."
        )
    later(task, args, kwargs)


# Failed jobs


def retry_failed_job(id: object, *, backend_alias: str = DEFAULT) -> None:
    """
    Let a failed, cancelled or discarded job live again, now and under the same id.

    It gets its number of attempts afresh and keeps the history of those it had.
    Raises Job.DoesNotExist for an unknown id, StaleJob if the job is not in one of
    these states (any more).
    """
    job = _job(id, backend_alias)
    if not lifecycle.retry(_dialect(backend_alias), [str(job.pk)]):
        raise StaleJob(
            f"Job {job.pk} is {_state(job)}, and only a failed, cancelled or discarded "
            "job can be retried."
        )


def schedule_failed_job_retry(
    id: object, *, retry_at: datetime | timedelta, backend_alias: str = DEFAULT
) -> None:
    """
    Let a job live again as ``retry_failed_job`` does, but from a moment on.

    Until then it is scheduled. ``retry_at`` is an aware datetime (a naive one where
    USE_TZ is off) or a timedelta from now, else ValueError. Other errors as
    ``retry_failed_job``.
    """
    job = _job(id, backend_alias)
    at = as_moment(retry_at)
    if not isinstance(at, datetime) or is_naive(at) == settings.USE_TZ:
        raise ValueError(f"retry_at must be an aware datetime, not {retry_at!r}.")
    if not lifecycle.retry(_dialect(backend_alias), [str(job.pk)], at=at):
        raise StaleJob(
            f"Job {job.pk} is {_state(job)}, and only a failed, cancelled or discarded "
            "job can be retried."
        )


def discard_failed_job(id: object, *, backend_alias: str = DEFAULT) -> None:
    """
    Turn a failed job into a discarded one: it stays readable, as nobody's concern.

    Raises Job.DoesNotExist for an unknown id, UndiscardableError if the job is not
    failed (any more).
    """
    job = _job(id, backend_alias)
    dialect = _dialect(backend_alias)
    with transaction.atomic(using=dialect.database):
        rows = EndedJob.objects.using(dialect.database).in_state(State.FAILED)
        # Locked, because a retry in between would make it a waiting job.
        if rows.filter(pk=job.pk).select_for_update().first():
            lifecycle.discard(dialect, [str(job.pk)])
            return
    raise UndiscardableError(
        f"Job {job.pk} is {_state(job)}, and only a failed job can be discarded here."
    )


# Cancelling


def cancel_job(id: object, reason: str = "", *, backend_alias: str = DEFAULT) -> bool:
    """
    Cancel a job that waits or runs; it is never tried again by itself.

    A waiting job ends at once. The code of a running one is told to stop (in a
    thread by a JobCancelled, on the event loop by cancelling it, in a process of its
    own by SIGTERM), and after ``stop_grace`` seconds its process is ended. The job is
    cancelled once its code is dead. Gives back True if it is or will be cancelled,
    False if it had ended. Inside a transaction it takes effect with the commit.
    Raises Job.DoesNotExist for an unknown id.
    """
    job = _job(id, backend_alias)
    return cancelling.cancel(
        _dialect(backend_alias), backend_alias, str(job.pk), reason
    )


# Waiting jobs, and copies


def run_now(id: object, *, backend_alias: str = DEFAULT) -> None:
    """
    Make a scheduled job ready now; one that is ready already stays so.

    A job in a durable sleep wakes up and goes on behind it. Raises Job.DoesNotExist
    for an unknown id, StaleJob if the job is in another state.
    """
    job, dialect = _job(id, backend_alias), _dialect(backend_alias)
    with transaction.atomic(using=dialect.database):
        moved = lifecycle.hasten(dialect, [str(job.pk)])
        if moved:
            memos.wake(dialect, str(job.pk), now=dialect.now().timestamp())
    if not moved and _state(job) != State.READY:
        raise StaleJob(
            f"Job {job.pk} is {_state(job)}, and only a scheduled job can be run now."
        )


def enqueue_copy(id: object, *, backend_alias: str = DEFAULT) -> JobResult:
    """
    Enqueue the same call once more, as a new job that is ready now.

    Task, arguments, queue, priority and metadata are those of the job, whatever became
    of it. Raises Job.DoesNotExist for an unknown id, and EnqueueError if there is no
    such task any more.
    """
    job = _job(id, backend_alias)
    task: Any = resolving.resolve(resolving.call_of(job)).using(
        priority=job.priority, queue_name=job.queue_name, backend=backend_alias
    )
    if job.metadata is not None:
        task = task.using(metadata=job.metadata)
    result: JobResult = task.enqueue(*job.args, **job.kwargs)
    return result


acancel_job = twin(cancel_job)
adiscard_failed_job = twin(discard_failed_job)
aenqueue_copy = twin(enqueue_copy)
aretry_failed_job = twin(retry_failed_job)
arun_now = twin(run_now)
aschedule_failed_job_retry = twin(schedule_failed_job_retry)


def _dialect(backend_alias: str) -> Dialect:
    return db.dialect(conf.options(backend_alias).database_alias)


def _job(id: object, backend_alias: str) -> Job:
    key = parse_id(id)
    jobs = Job.objects.using(conf.options(backend_alias).database_alias)
    job = jobs.filter(backend_alias=backend_alias, pk=key).first() if key else None
    if job is None:
        raise Job.DoesNotExist(f"The backend {backend_alias!r} has no job {id!r}.")
    return job


def _state(job: Job) -> str:
    # As it is now: the caller may have lost a race since the job was looked up.
    fresh = Job.objects.using(job._state.db).filter(pk=job.pk).first()
    return fresh.state if fresh else "gone"
