"""
Jobs that a script or a test claims and runs itself, in its own thread.

A script registers as a node like any worker, but beats no heart; so it is trusted
with its jobs for a while, and what it has not executed by then counts as lost.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import NamedTuple

from django.db import transaction

import windlass
from windlass import conf, db
from windlass.db import Claimed, Dialect, Lane
from windlass.exceptions import StaleJob
from windlass.jobs import announcing, execution, lifecycle, queues, rates
from windlass.jobs.handing_on import Nobody
from windlass.jobs.limits import Limits
from windlass.jobs.outcomes import Executor
from windlass.jobs.results import JobResult
from windlass.jobs.turns import Turns
from windlass.models import Node
from windlass.tasks_api import DEFAULT_TASK_BACKEND_ALIAS as DEFAULT
from windlass.tasks_api import task_backends
from windlass.twins import twin

# A script beats no heart, so its node is trusted with its jobs for this long.
SCRIPT_LEASE = timedelta(hours=1)


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
    hold = _Hold(secrets.randbits(62) + 1, backend_alias)
    with transaction.atomic(using=dialect.database):
        # The node first: a job held by a node that nobody knows would be rescued.
        node = _register(dialect, hold)
        jobs = _claim(dialect, hold, selectors, limit)
        jobs = _limits(hold).admit(dialect, hold.node, jobs)
        jobs = rates.admit(dialect, hold.node, backend_alias, jobs)
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
        max_attempts=options.max_attempts,
    )
    if job.id not in hold.unfinished:
        raise StaleJob(f"Job {job.id}: claim {job.claim} has been executed before.")
    outcome = execution.run(job, executor)
    hold.unfinished.discard(job.id)
    dialect = _dialect(hold.backend_alias)
    try:
        with transaction.atomic(using=dialect.database):
            if not outcome.recorded:
                lifecycle.record_one(dialect, hold.node, outcome.move)
            _limits(hold).release(dialect, hold.node, [job], taker=Nobody())
    except StaleJob:
        _sign_off(dialect, hold)
        raise
    _sign_off(dialect, hold)
    announcing.announce(outcome, executor)
    assert outcome.result is not None, "an Executor shows results by default"
    return outcome.result


def _limits(hold: _Hold) -> Limits:
    options = conf.options(hold.backend_alias)
    return Limits(hold.backend_alias, options.queue_limits)


def _dialect(backend_alias: str) -> Dialect:
    return db.dialect(conf.options(backend_alias).database_alias)


def _claim(
    dialect: Dialect, hold: _Hold, selectors: list[str], limit: int
) -> list[Claimed]:
    found = queues.in_order(selectors, dialect.lanes(hold.backend_alias))
    lanes = [Lane(*lane) for lane in found]
    turns = Turns(dialect, hold.backend_alias)
    turns.look(found, thoroughly=True)
    claim = partial(lifecycle.claim, dialect, hold.node, hold.backend_alias)
    return turns.serve(lanes, limit, claim, to_the_end=True)


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


aclaim_ready_jobs = twin(claim_ready_jobs)
aexecute_claimed_job = twin(execute_claimed_job)
