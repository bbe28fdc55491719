"""
Watching over the jobs that run: their timeouts, and who wants them cancelled.

One thread that runs no user code looks at every running job a few times a second.
Code that does not end within its grace after it was told to cannot be ended without
its process: then the worker is asked to retire, and the ledger says when the
supervisor is to kill it should it not get there by itself. The supervisor does so too
when code holds Python's lock, and this thread cannot run at all.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from windlass.runtime.flag import Flag
from windlass.runtime.running import Held, Running, interrupt

logger = logging.getLogger("windlass")

EVERY = 0.25
SOONEST = 0.005


class Watch:
    """The thread that ends what runs too long."""

    def __init__(
        self, running: Running, *, grace: float, overrun: Callable[[Held], None]
    ) -> None:
        self.running, self.grace, self.overrun = running, grace, overrun
        running.grace = grace
        self.told = Flag()
        self.stopping = False
        # When the process is killed at the latest, once it retires.
        self.latest = 0.0
        self.thread = threading.Thread(
            target=self._watch_until_told, name="windlass-watch", daemon=True
        )

    def start(self) -> None:
        self.thread.start()

    def stop(self) -> None:
        """End the thread."""
        self.stopping = True
        self.told.set()

    def look(self) -> None:
        """Look now: somebody asked for a cancel."""
        self.told.set()

    def stuck(self) -> list[Held]:
        """The jobs whose code did not end when it was told to."""
        now = time.monotonic()
        return [held for held in self.told_to_stop() if self._is_stuck(held, now)]

    def told_to_stop(self) -> list[Held]:
        """The jobs whose code was told to stop and still runs in this process."""
        running = list(self.running.jobs.values())
        return [
            held
            for held in running
            if held.stop is not None and not held.finished and held.wake is None
        ]

    def _is_stuck(self, held: Held, now: float) -> bool:
        if held.stop is None or held.finished or held.wake is not None:
            return False
        return now >= held.stopped_at + self.grace

    def _watch_until_told(self) -> None:
        while not self.stopping:
            try:
                pause = self.tick(now=time.monotonic())
            except Exception:
                logger.exception("The watch over running jobs failed; it goes on.")
                pause = EVERY
            self.told.wait(pause)
            self.told.clear()

    def tick(self, *, now: float) -> float:
        """Stop what is due; give back the seconds until the next look."""
        pause, kill_at = EVERY, self.latest
        for held in list(self.running.jobs.values()):
            if held.finished:
                continue
            if held.stop is None:
                self.running.stop_if_due(held, now=now)
            elif self._is_stuck(held, now):
                self.overrun(held)
            elif held.wake is None and now >= held.told_at + self.grace / 2:
                # Code may have swallowed the first one. Not sooner: it may be cleaning
                # up, or be over, between two lines that nobody is to interrupt.
                held.told_at = now
                interrupt(held)
            if held.wake is None and (limit := self._limit(held)):
                kill_at = min(kill_at or limit, limit) if not self.latest else kill_at
            if held.stop is None and held.deadline:
                pause = min(pause, held.deadline - now)
        if kill_at != self.running.kill_at:
            self.running.kill_at = kill_at
            self.running.ledger.kill_at(kill_at)
        return max(SOONEST, pause)

    def _limit(self, held: Held) -> float:
        told = held.stopped_at if held.stop is not None else held.deadline
        return told + self.grace + 1.0 if told else 0.0
