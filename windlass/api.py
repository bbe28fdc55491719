"""
What a project calls: plain functions over the rules, named for what they do.

Each works on the backend alias it is given, ``"default"`` unless said otherwise, and
on the database of that backend. Ids may be text in any spelling, or UUIDs.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple

from asgiref.sync import sync_to_async
from django.db import transaction

import windlass
from windlass import conf, db
from windlass.db import Claimed, Dialect, Lane
from windlass.exceptions import EnqueueError, StaleJob, UndiscardableError
from windlass.jobs import announcing, cancelling, execution, lifecycle, queues
from windlass.jobs.outcomes import Executor
from windlass.jobs.results import JobResult
from windlass.models import EndedJob, Job, Node, State
from windlass.models.jobs import parse_id
from windlass.tasks_api import DEFAULT_TASK_BACKEND_ALIAS as DEFAULT
from windlass.tasks_api import task_backends

# A script beats no heart, so its node is trusted with its jobs for this long.
SCRIPT_LEASE = timedelta(hours=1)


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


async def acancel_job(
    id: object, reason: str = "", *, backend_alias: str = DEFAULT
) -> bool:
    """See ``cancel_job``."""
    return await sync_to_async(cancel_job)(id, reason, backend_alias=backend_alias)


# Jobs run by hand


class ClaimedJob(NamedTuple):
    """A job that this script holds, for ``execute_claimed_job``."""

    job: Claimed
    hold: _Hold

    @property
    def id(self) -> str:
        """The job's id."""
        return self.job.id

    @property
    def task_path(self) -> str:
        """The dotted path of the job's task."""
        return self.job.task_path


@dataclass(frozen=True, slots=True)
class _Hold:
    """The node that claimed some jobs together, until it has ended them all."""

    node: int
    backend_alias: str
    unfinished: set[str] = field(default_factory=set)


def claim_ready_jobs(
    limit: int = 1, queues: str | Sequence[str] = "*", *, backend_alias: str = DEFAULT
) -> list[ClaimedJob]:
    """
    Claim up to ``limit`` ready jobs for the calling script or test, to run by hand.

    ``queues`` is a selector or several in the order they are to be served: a name, a
    prefix that ends in ``*``, or ``*``. No worker gets these jobs, and each claim has
    spent an attempt. They are the caller's for an hour; what has not been executed
    then counts as lost and is recovered, like any dead node's work.
    """
    dialect = _dialect(backend_alias)
    selectors = [queues] if isinstance(queues, str) else list(queues)
    lanes = _lanes(dialect, selectors, backend_alias)
    hold = _Hold(secrets.randbits(62) + 1, backend_alias)
    with transaction.atomic(using=dialect.database):
        # The node first: a job held by a node that nobody knows would be rescued.
        node = _register(dialect, hold)
        jobs = lifecycle.claim(dialect, hold.node, backend_alias, lanes, limit)
        if not jobs:
            node.delete()
    hold.unfinished.update(job.id for job in jobs)
    return [ClaimedJob(job, hold) for job in jobs]


def execute_claimed_job(claimed: ClaimedJob) -> JobResult:
    """
    Run one claimed job in the calling thread, record its end, and return its result.

    An error of the task is the job's, not the caller's: look at the result. Signals
    are sent as by a worker. Raises StaleJob, with nothing written, if the job was
    executed before or was taken over by someone else.
    """
    job, hold = claimed
    options = conf.options(hold.backend_alias)
    executor = Executor(
        node=hold.node,
        database=options.database_alias,
        backend=type(task_backends[hold.backend_alias]),
        backoff=options.backoff,
    )
    if job.id not in hold.unfinished:
        raise StaleJob(f"Job {job.id}: claim {job.claim} has been executed before.")
    outcome = execution.run(job, executor)
    hold.unfinished.discard(job.id)
    dialect = _dialect(hold.backend_alias)
    try:
        if not outcome.recorded:
            lifecycle.record_one(dialect, hold.node, outcome.move)
    except StaleJob:
        _sign_off(dialect, hold)
        raise
    _sign_off(dialect, hold)
    announcing.announce(outcome, executor)
    assert outcome.result is not None, "an Executor shows results by default"
    return outcome.result


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


def _lanes(dialect: Dialect, selectors: list[str], backend_alias: str) -> list[Lane]:
    found = dialect.lanes(backend_alias)
    return [Lane(*lane) for lane in queues.in_order(selectors, found)]


def _sign_off(dialect: Dialect, hold: _Hold) -> None:
    if not hold.unfinished:
        Node.objects.using(dialect.database).filter(pk=hold.node).delete()


def _register(dialect: Dialect, hold: _Hold) -> Node:
    now = dialect.now()
    return Node.objects.using(dialect.database).create(
        id=hold.node,
        kind=Node.Kind.WORKER,
        backend_alias=hold.backend_alias,
        name="script",
        host=socket.gethostname(),
        pid=os.getpid(),
        started_at=now,
        heartbeat_at=now + SCRIPT_LEASE,
        version=windlass.__version__,
    )
