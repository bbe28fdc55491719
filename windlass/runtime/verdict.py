"""
What becomes of a job whose node is gone, from what the node's ledger says of it.

What never started is released. What was told to stop ends as it was told, with the
stacks its process left. What merely shared the process of such a job goes back, as at
any other stop of a worker. Only what remains has lost its process, and counts a crash.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from windlass.conf import Options
from windlass.db import Claimed
from windlass.exceptions import JobCancelled, JobTimeout, WindlassError
from windlass.jobs import attempts, lifecycle, outcomes
from windlass.jobs.lifecycle import Attempt, Move
from windlass.jobs.outcomes import Executor
from windlass.jobs.policies import timeout_of, with_budget
from windlass.models import Reason
from windlass.runtime import identity, ledger
from windlass.runtime.ledger import CANCELLED, TIMED_OUT, Begun
from windlass.tasks_api import task_backends

MOST_STACKS = 20_000


class Verdict:
    """Decides about the jobs of one dead node."""

    def __init__(
        self,
        options: Options,
        node: int,
        cause: WindlassError,
        reason: str,
        cancels: dict[str, str],
    ) -> None:
        self.options, self.node = options, node
        self.cause, self.reason, self.cancels = cause, reason, cancels
        self.now = time.time()
        self.known = ledger.read(node)
        self.was_ended = ledger.was_ended_on_purpose(node)
        self.executor = Executor(
            node,
            options.database_alias,
            type(task_backends[options.alias]),
            options.backoff,
            options.max_attempts,
        )

    def __call__(self, job: Claimed) -> Move:
        """What becomes of one job."""
        begun = self._begun(job)
        if begun is None:
            return lifecycle.release(job)
        _end_process(begun)
        if begun.state == TIMED_OUT:
            return self._stopped(job, begun, self._timeout(job))
        if begun.state == CANCELLED or job.id in self.cancels:
            why = self.cancels.get(job.id) or "it did not end by itself"
            cancelled = JobCancelled(f"Job {job.id} was cancelled: {why}")
            return self._stopped(job, begun, cancelled)
        budgeted = with_budget(job, self.options.max_attempts)
        attempt = Attempt(budgeted, self.node, begun.started, self.now)
        if self.was_ended:
            entry = attempts.describe(attempt, Reason.INTERRUPTED, self.cause)
            return lifecycle.interrupt(attempt, entry)
        entry = attempts.describe(attempt, self.reason, self.cause)
        return lifecycle.crash(attempt, entry, crash_limit=self.options.crash_limit)

    def _begun(self, job: Claimed) -> Begun | None:
        # Without a ledger to believe, all count as started.
        if self.known is None:
            return Begun(self.now)
        return self.known.get((job.id, job.claim))

    def _timeout(self, job: Claimed) -> JobTimeout:
        return JobTimeout(
            f"Job {job.id} ({job.task_path}): attempt {job.attempts} ran longer than "
            f"its timeout of {timeout_of(job) or 0:g} s and did not end when it was "
            "told to, so its process was ended."
        )

    def _stopped(
        self, job: Claimed, begun: Begun, error: JobTimeout | JobCancelled
    ) -> Move:
        with contextlib.suppress(OSError):
            shown = ledger.stacks_of(self.node).read_text(errors="replace")
            if shown:
                error.add_note(f"Its process was here:\n{shown[:MOST_STACKS]}")
        return outcomes.failed(job, error, self.executor, begun.started).move


def _end_process(begun: Begun) -> None:
    """Kill the group of a job that ran in a process of its own, if any is left."""
    if not begun.child:
        return
    started = identity.process_start(begun.child)
    # A group outlives its first process. A number that somebody else has is not ours.
    if started in (0, begun.child_started):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(begun.child, signal.SIGKILL)
