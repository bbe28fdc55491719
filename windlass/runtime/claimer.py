"""
How much to claim, and when: enough to keep the threads busy, no more than a moment's.

Short jobs are claimed by the hundred, because the cost of a claim is then shared;
long ones as they can start, because a claimed job waits where no other worker can
take it. The measure is how long recent jobs took. What still waits behind a slow
job is handed back.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING

from windlass.conf import WorkerOptions
from windlass.db import Claimed, Dialect, rare
from windlass.jobs import lifecycle, rates
from windlass.jobs.handing_on import Nobody
from windlass.jobs.limits import Limits
from windlass.jobs.queues import Lanes
from windlass.jobs.turns import Turns

if TYPE_CHECKING:
    from windlass.runtime.handover import Handover

# The most jobs one claim takes, and the most claimed and not yet durable.
BATCH = 300
BOUND = 4 * BATCH
# A thread has this many seconds of work before it, as far as one can tell.
AHEAD = 0.05
# A new kind of job weighs this much against what was measured before.
WEIGHT = 0.3
LANES_EVERY = 1.0
# A claim that came back short asks for new lanes, though not at every poll.
LANES_AFTER_SHORT = 0.02
FORGET_LANES_EVERY = 60.0


class Claimer:
    """Claims for one worker process; told how its jobs fare."""

    def __init__(
        self,
        db: Dialect,
        node: int,
        backend_alias: str,
        options: WorkerOptions,
        *,
        limits: Limits,
        handover: Handover,
    ) -> None:
        self.db, self.node, self.backend_alias = db, node, backend_alias
        self.options, self.limits, self.handover = options, limits, handover
        self.lanes = Lanes(options.queues)
        self.turns = Turns(db, backend_alias)
        self.claimed_sync = self.claimed_async = 0
        self.settled_sync = self.settled_async = 0
        self.seconds_per_job: float | None = None
        self.expect_async = False
        # Whether the last claim saw every lane, below its floor too.
        self.looked_everywhere = self._thorough = False
        self._was_short = False
        self._lanes_at = float("-inf")
        self._forget_at = float("-inf")
        # If there is a pause between two jobs: whether one is owed, and until when.
        self._is_tired, self._rested_at = False, float("-inf")

    @property
    def in_hand(self) -> int:
        """Jobs claimed and not yet durable."""
        # First: what got a slot waits there before what freed it is settled.
        waiting = len(self.handover)
        return waiting + self._sync_in_hand + self.claimed_async - self.settled_async

    @property
    def _sync_in_hand(self) -> int:
        return self.claimed_sync + self.handover.followed - self.settled_sync

    def room(self, *, ahead: bool = True) -> int:
        """How many jobs to claim now; not ``ahead``: only for threads that are free."""
        if self.options.job_pause:
            return self._room_after_a_pause()
        threads = self.options.threads
        if not ahead:
            target = threads
        elif self.seconds_per_job is None:
            target = 2 * threads
        else:
            jobs_ahead = AHEAD / max(self.seconds_per_job, 1e-6)
            target = threads + min(BOUND, int(threads * jobs_ahead))
        room = min(target, BOUND) - self._sync_in_hand
        if self.expect_async:
            in_loop = self.claimed_async - self.settled_async
            room = max(room, self.options.async_concurrency - in_loop)
        # Few large claims cost less than many small ones, while nobody is idle.
        busy = self._sync_in_hand >= threads
        if busy and room < BATCH // 2 and room < target // 2:
            return 0
        return max(0, min(room, BATCH))

    def _room_after_a_pause(self) -> int:
        if self.in_hand:
            return 0
        if self._is_tired:
            self._is_tired = False
            self._rested_at = time.monotonic() + self.options.job_pause
        return int(time.monotonic() >= self._rested_at)

    def took(self, seconds: float, jobs: int) -> None:
        """Learn how long jobs in threads run."""
        each = seconds / jobs
        before = self.seconds_per_job
        self.seconds_per_job = (
            each if before is None else before + WEIGHT * (each - before)
        )

    def claim(self, limit: int) -> list[Claimed]:
        """Claim up to ``limit`` jobs; look for new lanes when that came back short."""
        if limit <= 0:
            return []
        # What was found comes first: somebody waits for it.
        self._look_for_lanes(short=self._was_short)
        jobs = self._claim(limit)
        self._was_short = 0 < len(jobs) < limit
        if not jobs and self._look_for_lanes(short=True):
            jobs = self._claim(limit)
        return jobs

    def _claim(self, limit: int) -> list[Claimed]:
        begun = time.monotonic()
        lanes, full = self.lanes.for_claim(now=begun)
        thoroughly, self._thorough = full and self._thorough, False
        self.looked_everywhere = thoroughly
        if not lanes:
            return []
        claim = partial(lifecycle.claim, self.db, self.node, self.backend_alias)
        jobs = self.turns.serve(lanes, limit, claim, to_the_end=thoroughly)
        now = time.monotonic()
        if full:
            self.lanes.full_claim_took(now - begun, now=now)
        self.lanes.learn(jobs, now=now)
        admitted = self._admit(jobs)
        # What was turned away made room, so there may be more that is ready.
        self.looked_everywhere &= self.turns.is_done and len(admitted) == len(jobs)
        return admitted

    def _admit(self, jobs: list[Claimed]) -> list[Claimed]:
        if any(map(self.limits.concern, jobs)):
            jobs = self.limits.admit(self.db, self.node, jobs)
        if not rates.are_limited(jobs):
            return jobs
        admitted = rates.admit(self.db, self.node, self.backend_alias, jobs)
        if len(admitted) < len(jobs):
            let_go = {job.id for job in admitted}
            late = [job for job in jobs if job.id not in let_go]
            self.limits.release(self.db, self.node, late, taker=Nobody())
        return admitted

    def _look_for_lanes(self, *, short: bool) -> bool:
        """Refresh the lanes if it is time, or if a claim came back short."""
        now = time.monotonic()
        # With one writer, a claim is only made when something has changed.
        soon = 0.0 if self.db.single_writer else LANES_AFTER_SHORT
        if now - self._lanes_at < (soon if short else LANES_EVERY):
            return False
        found = self.db.lanes(self.backend_alias)
        self._lanes_at = now
        if now - self._forget_at >= FORGET_LANES_EVERY:
            self._forget_at = now
            self.lanes.keep_only(found)
        new = self.lanes.refresh(found)
        return self.turns.look(self.lanes.served, thoroughly=self._thorough) or new

    def look_everywhere(self) -> None:
        """Let the next claim trust nothing it remembers."""
        self.lanes.forget_floors()
        self._lanes_at, self._thorough = float("-inf"), True

    def release_unknown(self, known: Collection[tuple[str, int]]) -> None:
        """
        Give back what this node holds and does not know of.

        A claim whose answer was lost may have been committed. Nobody else would ever
        give those jobs back, because this node lives.
        """
        held = rare.held_by(self.db, self.node, limit=10 * BOUND)
        unknown = [job for job in held if (job.id, job.claim) not in known]
        moves = [lifecycle.release(job) for job in unknown]
        lifecycle.record(self.db, self.node, moves)

    def divide(self, jobs: Sequence[Claimed], asyncs: Sequence[Claimed]) -> None:
        """Count what was claimed for the threads and for the event loop."""
        self.claimed_sync += len(jobs)
        self.claimed_async += len(asyncs)
        self._is_tired = True
        self.expect_async = bool(asyncs) or (self.expect_async and not jobs)
