"""
The janitor looks for work that nobody does any more, and for nodes that are gone.

Any node may run one. A dead process of this host is found at once, a dead host when
its heartbeat is old, and a job held by a node that nobody knows by a slow sweep.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from windlass.conf import Options
from windlass.db import cancels
from windlass.jobs import cancelling
from windlass.runtime import ledger
from windlass.runtime.recovery import Recovery

# It reads the hot table once. Not at the start, when a backlog is waiting, but after so
# many heartbeats.
SWEEP_EVERY, FIRST_SWEEP_AFTER = 60.0, 6
# A claim may commit after the death of the process that sent it, see recovery.
LOOK_AGAIN_AFTER = 1.0


class Janitor:
    """Recovers what dead nodes held."""

    name = "janitor"

    def __init__(
        self, options: Options, *, lateness: Callable[[], float] = lambda: 0.0
    ) -> None:
        self.options, self.lateness = options, lateness
        self.recovery = Recovery(options)
        beats = FIRST_SWEEP_AFTER * options.process_heartbeat_interval
        self._sweep_at = time.monotonic() + beats
        self._look_again_at = float("inf")
        self._trust_heartbeats_from = 0.0
        self._looked: tuple[float, datetime] | None = None
        self.database_returned()

    def database_returned(self) -> None:
        """Give the others time to beat: while nobody could, every node looks dead."""
        grace = 2 * self.options.process_heartbeat_interval + 5
        self._trust_heartbeats_from = time.monotonic() + grace

    def tick(self) -> float:
        """Recover what is lost; give back the seconds until the next look."""
        now = time.monotonic()
        if now >= self._look_again_at:
            self.recovery.look_again()
            self._look_again_at = float("inf")
        self.recovery.dead_children()
        self._see_to_cancels()
        # Not at the beginning: what held up this tick has held up their heartbeats.
        if self._look_at_the_clocks() >= self._trust_heartbeats_from:
            self.recovery.silent_nodes()
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_EVERY
            self.recovery.unregistered_holders()
            ledger.sweep(now=time.time())
        if self.recovery.recovered and self._look_again_at > now + LOOK_AGAIN_AFTER:
            self._look_again_at = now + LOOK_AGAIN_AFTER
        return min(1.0, self.options.process_heartbeat_interval)

    def _see_to_cancels(self) -> None:
        """Cancel what waits by now, and forget requests whose job has ended."""
        requests = cancels.cancel_requests(self.recovery.db, self.options.alias)
        for why in set(requests.values()):
            ids = [id for id, reason in requests.items() if reason == why]
            cancelling.cancel_waiting(self.recovery.db, self.options.alias, ids, why)
        if requests:
            cancels.forget_idle_cancels(self.recovery.db, list(requests))

    def _look_at_the_clocks(self) -> float:
        """
        Give back the time; trust no heartbeat for a while if it jumped since last time.

        A machine that slept, a lock that nobody got past, a clock that was set: each
        makes every node look dead until it has had time to beat again. So does
        whatever kept this node itself from beating.
        """
        now, by_database = time.monotonic(), self.recovery.db.now()
        # Who cannot write, on a full disk say, may well read.
        if self.lateness() > 2 * self.options.process_heartbeat_interval:
            self.database_returned()
        if self._looked is not None:
            passed = now - self._looked[0]
            drift = (by_database - self._looked[1]).total_seconds() - passed
            if max(passed, abs(drift)) > self.options.process_alive_threshold / 2:
                self.database_returned()
        self._looked = now, by_database
        return now

    def leave(self) -> None:
        """Finish what nobody else would: the second look at what was recovered."""
        self.recovery.look_again()
