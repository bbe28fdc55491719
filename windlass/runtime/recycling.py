"""
When a worker process has done its share and is to be replaced by a fresh one.

After ``max_jobs`` jobs, or once it occupies ``max_memory``: what leaks in libraries
then leaks for a while only. Both limits are drawn up to a tenth lower for each
process, so that all of them do not go at once.
"""

from __future__ import annotations

import time

from windlass.conf import WorkerOptions
from windlass.runtime.memory import resident, with_jitter

LOOK_EVERY = 1.0


class Recycling:
    """The limits of one worker process."""

    def __init__(self, options: WorkerOptions) -> None:
        jobs, memory = options.max_jobs, options.max_memory
        self.jobs = None if jobs is None else with_jitter(jobs)
        self.memory = None if memory is None else with_jitter(memory)
        self.settled = 0
        self._look_at = 0.0

    def room(self, wanted: int, in_hand: int) -> int:
        """How many of these jobs this process may still claim."""
        if self.jobs is None:
            return wanted
        return max(0, min(wanted, self.jobs - self.settled - in_hand))

    def reached(self, *, settled: int) -> bool:
        """Whether one is reached, now that so many more jobs have their end."""
        self.settled += settled
        if self.jobs is not None and self.settled >= self.jobs:
            return True
        if self.memory is None or time.monotonic() < self._look_at:
            return False
        self._look_at = time.monotonic() + LOOK_EVERY
        return resident() >= self.memory
