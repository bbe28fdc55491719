"""
Jobs that got the slot of another that ended, from the flusher to the claim loop.

The database says that this node holds them as soon as the end of the other is durable.
They count as in hand from that moment on, so a worker neither drains nor stops without
them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from windlass.db import Claimed
from windlass.jobs.queues import rank

if TYPE_CHECKING:
    from windlass.runtime.worker import Worker


class Handover:
    """What one worker was handed and has not given to its threads yet."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self._jobs: deque[Claimed] = deque()

    def __len__(self) -> int:
        return len(self._jobs)

    def takes(self, job: Claimed) -> bool:
        """Whether a job that waited for a slot may be held by this worker."""
        worker = self.worker
        is_counted = worker.budget is not None or worker.worker.max_jobs is not None
        if worker.stopping or is_counted:
            return False
        return rank(worker.worker.queues, job.queue_name) >= 0

    def put(self, jobs: Sequence[Claimed]) -> None:
        """Hand over jobs that this node holds; from the flusher's thread."""
        self.worker.holds.update([(job.id, job.claim) for job in jobs])
        self._jobs.extend(jobs)
        self.worker.attention.set()

    def take(self) -> list[Claimed]:
        """All of them, to be handed out or given back."""
        jobs = []
        while self._jobs:
            jobs.append(self._jobs.popleft())
        return jobs
