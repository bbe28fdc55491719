"""
Jobs that got the slots of others that ended, from the flusher to the threads.

The database says that this node holds them as soon as the ends of the others are
durable, and they count as in hand from that moment on. A slot comes with a chain of
jobs that may not run side by side: the first goes to the threads, and each of the
others follows in the moment in which the one before it has ended.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from windlass.db import Claimed
from windlass.jobs import resolving
from windlass.jobs.queues import rank
from windlass.runtime.claimer import AHEAD, BATCH

if TYPE_CHECKING:
    from windlass.runtime.worker import Worker

# The most jobs of one slot that a worker holds.
CHAIN = 64


class Behind(NamedTuple):
    """What waits for one job to end, and since when that one is in hand."""

    ahead: Claimed
    since: float
    jobs: deque[Claimed]


class Handover:
    """What one worker was handed and has not given to its threads yet."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self._heads: deque[Claimed] = deque()
        self._behind: dict[str, Behind] = {}
        self._lock = threading.Lock()
        self._waiting = 0
        # How many have followed another to the threads.
        self.followed = 0

    def __len__(self) -> int:
        return self._waiting

    # What the rules of handing on ask, in the flusher's thread

    def takes(self, job: Claimed) -> bool:
        """Whether a job that waited for a slot may be held by this worker."""
        worker = self.worker
        is_counted = worker.budget is not None or worker.worker.max_jobs is not None
        if worker.stopping or is_counted or worker.worker.job_pause:
            return False
        return rank(worker.worker.queues, job.queue_name) >= 0

    def follows(self, job: Claimed) -> bool:
        """Whether a job runs in a thread, and so may wait for one of its key there."""
        path = job.task_path
        return not (resolving.runs_on_loop(job) or resolving.runs_in_process(path))

    def length(self, places: int) -> int:
        """How many jobs of each of some slots are a moment's work."""
        seconds = self.worker.claimer.seconds_per_job
        if seconds is None:
            return 1
        ahead = int(AHEAD / max(seconds, 1e-6))
        return max(1, min(CHAIN, ahead, BATCH // max(places, 1)))

    def put(self, chains: Sequence[Sequence[Claimed]]) -> None:
        """Hand over chains of jobs that this node holds."""
        now = time.monotonic()
        with self._lock:
            for chain in chains:
                self.worker.holds.update([(job.id, job.claim) for job in chain])
                self._waiting += len(chain)
                self._heads.append(chain[0])
                if len(chain) > 1:
                    rest = deque(chain[1:])
                    self._behind[chain[0].id] = Behind(chain[0], now, rest)
        self.worker.attention.set()

    # From the threads

    def follow(self, job: Claimed) -> None:
        """Let the next of a chain follow one that has ended."""
        if not self._behind:
            return
        with self._lock:
            behind = self._behind.pop(job.id, None)
            if behind is None:
                return
            following = behind.jobs.popleft()
            if behind.jobs:
                self._behind[following.id] = Behind(
                    following, time.monotonic(), behind.jobs
                )
            self.followed += 1
            self._waiting -= 1
        self.worker.threads.jobs.put(following)

    # From the claim loop

    def take(self) -> list[Claimed]:
        """The first of each chain, to be handed out or given back."""
        with self._lock:
            jobs = list(self._heads)
            self._heads.clear()
            self._waiting -= len(jobs)
        return jobs

    def stop_waiting(self, *, since: float) -> list[Behind]:
        """
        Take back what waits for jobs that are in hand since a moment, or for longer.

        Nothing follows those any more. Their slot has to be theirs from now on.
        """
        with self._lock:
            found = [b for b in self._behind.values() if b.since <= since]
            for behind in found:
                del self._behind[behind.ahead.id]
                self._waiting -= len(behind.jobs)
        return found
