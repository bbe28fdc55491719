"""
Writing and claiming from one thread, on a database with one writer.

What has ended is recorded in the transaction of the next claim, so a busy worker
commits once a batch. What was taken from the flusher stays here until it is written,
however often the database refuses.
"""

from __future__ import annotations

import time

from django.db import DatabaseError

from windlass.db import Claimed, Dialect
from windlass.runtime.claimer import Claimer
from windlass.runtime.flusher import Flusher, Report
from windlass.runtime.outage import LOST


class Exchange:
    """The writing half of a worker process whose database has one writer."""

    def __init__(self, db: Dialect, flusher: Flusher, claimer: Claimer) -> None:
        self.db, self.flusher, self.claimer = db, flusher, claimer
        self.unwritten: list[Report] = []
        self._poll_at = 0.0
        # Whether there may be ready jobs that the last claim had no room for.
        self._more = True

    def turn(self, room: int, *, poll_every: float) -> list[Claimed]:
        """Record what has ended and claim the next, in one commit."""
        batch = self.unwritten = self.unwritten or self.flusher.take()
        if not batch:
            return self._claim_if_changed(room, poll_every)
        try:
            with self.db.transaction():
                moved, handed_on = self.flusher.record(batch)
                jobs = self._claim(room)
        except LOST:
            raise
        except DatabaseError:
            # One of them cannot be stored; the flusher finds out which.
            self.write()
            return []
        self.unwritten = []
        self.flusher.wrote(batch, moved, handed_on)
        return jobs

    def write(self) -> None:
        """Record all that has ended."""
        self.unwritten = self.unwritten or self.flusher.take()
        while self.unwritten:
            self.flusher.write(self.unwritten)
            self.unwritten = self.flusher.take()

    def _claim_if_changed(self, room: int, poll_every: float) -> list[Claimed]:
        now = time.monotonic()
        if room and (self._more or self.db.changed() or now >= self._poll_at):
            self._poll_at = now + poll_every
            return self._claim(room)
        return []

    def _claim(self, room: int) -> list[Claimed]:
        jobs = self.claimer.claim(room)
        if room:
            # Only a claim that came back short has seen the end of what is ready.
            self._more = len(jobs) == room or not self.claimer.turns.is_done
        return jobs
