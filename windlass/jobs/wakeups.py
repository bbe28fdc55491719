"""
Wake-ups: notes between the processes of a backend, which hurry and decide nothing.

New jobs are told to workers, cancels as well, and ends to who waits for them. The
tables say what is so, and everybody looks at them now and then: a note may be lost,
and the one who carries them may be away. ``wakeup`` says who carries: the database,
if it can, or Redis; with ``"poll"`` nobody does.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Protocol

from windlass import conf
from windlass.conf import Options
from windlass.db import Dialect, NewJob

# A note of which only this is known: something may have come meanwhile.
SOMETHING = ""


class Deaf(Exception):
    """No notes can be heard; ``for_good`` if that will stay so."""

    def __init__(self, why: str, *, for_good: bool) -> None:
        super().__init__(why)
        self.for_good = for_good


class Ear(Protocol):
    """Hears the notes of some channels, for one thread."""

    def wait(self, seconds: float) -> list[str]:
        """Wait for notes; raise Deaf at once if none can be heard now."""

    def close(self) -> None:
        """Hear no more."""


class Wakeups:
    """Carries no notes: everybody looks."""

    def announce(self, jobs: Sequence[NewJob], db: Dialect) -> None:
        """Tell workers of jobs that were stored, at the caller's commit."""

    def tell(self, channel: str, note: str, db: Dialect) -> None:
        """Tell who listens to a channel, at the caller's commit."""

    def listen(
        self, *channels: str, db: Dialect, queues: Sequence[str] = ()
    ) -> Ear | None:
        """
        Make an ear for the calling thread, or None if nobody carries notes.

        It hears of the new jobs of the queues that these selectors cover, at least.
        """
        return None


class ByDatabase(Wakeups):
    """Notes go with the commits of the database, new jobs with what stores them."""

    def tell(self, channel: str, note: str, db: Dialect) -> None:
        db.tell(channel, note)

    def listen(
        self, *channels: str, db: Dialect, queues: Sequence[str] = ()
    ) -> Ear | None:
        """See ``Wakeups``: of the new jobs of all queues."""
        return DatabaseEar(channels, db) if db.notifies else None


class DatabaseEar:
    """Listens by the calling thread's connection."""

    def __init__(self, channels: Sequence[str], db: Dialect) -> None:
        self.channels, self.db = channels, db
        self._on: object = None

    def wait(self, seconds: float) -> list[str]:
        """See ``Ear``; raises the database's errors when it is away."""
        connection = self.db.connection
        connection.ensure_connection()
        if connection.connection is not self._on:
            if not self.db.keeps_sessions():
                raise Deaf("it is behind a transaction pooler", for_good=True)
            for channel in self.channels:
                self.db.listen(channel)
            self._on = connection.connection
            return [SOMETHING]
        return self.db.wait_for_notification(seconds)

    def close(self) -> None:
        """See ``Ear``: the connection is its owner's."""


def wakeups(options: Options) -> Wakeups:
    """Who carries the notes of a backend."""
    if options.wakeup == "redis":
        return _by_redis(options.alias)
    return Wakeups() if options.wakeup == "poll" else ByDatabase()


@cache
def _by_redis(alias: str) -> Wakeups:
    from windlass.jobs.redis_wakeups import ByRedis

    return ByRedis(alias, conf.options(alias).redis_url)
