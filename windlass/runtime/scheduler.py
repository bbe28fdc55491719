"""
The scheduler fires schedules that are due.

Any node may run one. It asks for what is due until it will look again, so schedules
that are not due cost nothing, and it sleeps until the first of them. One that cannot
be fired stays due: this node leaves it alone for a while, and a node that has the
task, or this one after the next deploy, fires it.
"""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta

from windlass import db, firing, recurring
from windlass.conf import Options
from windlass.exceptions import WindlassError
from windlass.models import Schedule
from windlass.runtime.outage import LOST

logger = logging.getLogger("windlass")

# At most so many in one turn, because the janitor waits for its own.
BATCH = 200
AFTER_AN_ERROR = 60.0
# Longer than this after its last look, a scheduler was not late but absent.
ABSENT = timedelta(seconds=60)
# So long before a due time there is no use in looking again.
EARLY = 0.001


class Scheduler:
    """Enqueues what is due, and keeps the static schedules like the settings."""

    name = "scheduler"

    def __init__(self, options: Options) -> None:
        self.options = options
        self.db = db.dialect(options.database_alias)
        self.interval = timedelta(seconds=options.scheduler.polling_interval)
        self._synced = False
        # When nothing was left to fire, by the database's clock; None if unknown.
        self._idle_at: datetime | None = None
        self._looked: tuple[datetime, float] | None = None
        self._leave_alone: dict[int, float] = {}

    def database_returned(self) -> None:
        """Count what was due while it was away as missed."""
        self._idle_at = None

    def tick(self) -> float:
        """Fire what is due; give back the seconds until something may be again."""
        try:
            return self._fire_what_is_due()
        except LOST:
            self.database_returned()
            raise

    def _fire_what_is_due(self) -> float:
        began = time.monotonic()
        if not self._synced:
            recurring.sync(self.db, self.options)
            firing.restart_after_the_clock_went_back(self.db, self.options.alias)
            self._synced = True
        now = self._now()
        until = now + self.interval
        rows = firing.soon(
            self.db,
            self.options.alias,
            until=until,
            besides=self._left_alone(),
            dynamic=self.options.scheduler.dynamic_tasks_enabled,
            limit=BATCH,
        )
        soonest = min((self._next(row, now) for row in rows), default=until)
        if soonest > now and len(rows) < BATCH:
            self._idle_at = now
        wait = (min(soonest, until) - now).total_seconds()
        return max(EARLY, wait - (time.monotonic() - began))

    def _next(self, row: Schedule, now: datetime) -> datetime:
        assert row.next_due_at is not None, "the database compared it"
        due = firing.aware(row.next_due_at)
        if due > now:
            return due
        try:
            return firing.fire(
                self.db, row, now=now, missed_before=self._missed_before(now)
            )
        except LOST:
            raise
        except Exception as error:
            details = None if isinstance(error, WindlassError) else error
            logger.error(
                "The schedule %r cannot be fired; trying again in %d s: %s",
                row.key,
                AFTER_AN_ERROR,
                error,
                exc_info=details,
            )
            self._leave_alone[row.pk] = time.monotonic() + AFTER_AN_ERROR
            recurring.note_error(self.db, row, error)
            return now + timedelta(seconds=AFTER_AN_ERROR)

    def _missed_before(self, now: datetime) -> datetime:
        # Whoever has just started cannot know whether others are late or absent.
        late = now - self.interval
        return (
            late
            if self._idle_at is None
            else max(min(self._idle_at, late), now - ABSENT)
        )

    def _now(self) -> datetime:
        now, tick = firing.aware(self.db.now()), time.monotonic()
        if self._looked is not None:
            passed = (now - self._looked[0]).total_seconds()
            if passed < tick - self._looked[1] - ABSENT.total_seconds():
                firing.restart_after_the_clock_went_back(self.db, self.options.alias)
                self._idle_at = None
        self._looked = now, tick
        return now

    def _left_alone(self) -> list[int]:
        now = time.monotonic()
        self._leave_alone = {
            pk: until for pk, until in self._leave_alone.items() if until > now
        }
        return list(self._leave_alone)
