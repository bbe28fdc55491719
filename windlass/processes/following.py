"""
Waiting for the next line of a log.

Who follows looks at the table, for that says what is so. In each interpreter one thread
hears the notes of a database for all who follow there, by one connection, as long as
anybody does. Who is woken by it looks seldom for itself; where nothing is heard, often.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from django.db import Error

from windlass import db
from windlass.jobs.wakeups import SOMETHING, Deaf, Ear
from windlass.processes import notes
from windlass.processes.lines import name_of

if TYPE_CHECKING:
    from windlass.processes.models import BaseProcess

logger = logging.getLogger("windlass")

# Seconds between looks where nothing is heard, and where notes are.
SOON, SELDOM = 0.1, 1.0
# Seconds until it is tried again to hear: after an error, and where nobody can.
AGAIN, DEAF = 1.0, 60.0
# Who leaves last cannot interrupt the wait for a note.
SLICE = 0.2


class Follower:
    """One who follows a process's log in a thread; a context."""

    def __init__(self, process: BaseProcess) -> None:
        self.note = notes.note_of(name_of(process))
        self.database = process._windlass_database()
        self.woken = threading.Event()
        self.hearer: Hearer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.hearer is not None:
            self.hearer.remove(self)

    def wake(self) -> None:
        """Let it look. From any thread."""
        self.woken.set()

    def wait(self) -> None:
        """Wait until it is time to look again."""
        # What came before it was heard of would be missed.
        if not self.joins():
            self.woken.wait(self.pause)
            self.woken.clear()

    def joins(self) -> bool:
        """Begin to be woken; False if that has been done before."""
        if self.hearer is not None:
            return False
        self.hearer = _hearer(self.database)
        self.hearer.add(self)
        return True

    @property
    def pause(self) -> float:
        """Seconds until a look without being woken."""
        assert self.hearer is not None
        return SELDOM if self.hearer.hears else SOON


class AsyncFollower(Follower):
    """One who follows on the running event loop, without a thread of its own."""

    def __init__(self, process: BaseProcess) -> None:
        super().__init__(process)
        self.loop = asyncio.get_running_loop()
        self.news = asyncio.Event()

    def wake(self) -> None:
        """Let it look. From any thread."""
        # The loop may have been closed by whoever gave up.
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.news.set)

    async def wait_on_loop(self) -> None:
        """See ``wait``."""
        if not self.joins():
            with suppress(TimeoutError):
                await asyncio.wait_for(self.news.wait(), self.pause)
            self.news.clear()


class Hearer:
    """Hears the notes of one database, on behalf of all who follow there."""

    def __init__(self, database: str) -> None:
        self.db = db.dialect(database)
        self.lock = threading.Lock()
        self.following: dict[str, list[Follower]] = defaultdict(list)
        self.thread: threading.Thread | None = None
        self.hears = False
        self._listen_at = 0.0

    def add(self, follower: Follower) -> None:
        """Wake somebody from now on."""
        with self.lock:
            self.following[follower.note].append(follower)
            if self.thread is not None or time.monotonic() < self._listen_at:
                return
            ear = notes.listen(self.db.database)
            if ear is not None:
                self.thread = threading.Thread(
                    target=self._hear, args=[ear], name="windlass-follows", daemon=True
                )
                self.thread.start()

    def remove(self, follower: Follower) -> None:
        """Wake somebody no more."""
        with self.lock:
            self.following[follower.note].remove(follower)
            if not self.following[follower.note]:
                del self.following[follower.note]

    def _hear(self, ear: Ear) -> None:
        try:
            while self._goes_on():
                try:
                    self._wake(ear.wait(SLICE))
                    self.hears = True
                except (Deaf, Error) as error:
                    self._is_lost(error)
                    self.db.close()
                    time.sleep(AGAIN)
        except Exception:
            logger.exception("Who follows a log is not woken any more.")
            self._is_lost(None)
        finally:
            ear.close()
            self.db.close()

    def _goes_on(self) -> bool:
        with self.lock:
            if self.following and time.monotonic() >= self._listen_at:
                return True
            self.thread, self.hears = None, False
            return False

    def _is_lost(self, error: BaseException | None) -> None:
        """Have everybody look, and often, until notes are heard again."""
        with self.lock:
            self.hears = False
            if error is None:
                self.thread = None
            elif isinstance(error, Deaf) and error.for_good:
                self._listen_at = time.monotonic() + DEAF
        logger.debug("Who follows a log looks for itself: %s", error)
        self._wake([SOMETHING])

    def _wake(self, heard: list[str]) -> None:
        with self.lock:
            named = self.following if SOMETHING in heard else {*heard}
            woken = [each for n in named for each in self.following.get(n, ())]
        for each in woken:
            each.wake()


_lock = threading.Lock()
_hearers: dict[str, Hearer] = {}


def _hearer(database: str) -> Hearer:
    with _lock:
        found = _hearers.get(database)
        if found is None:
            found = _hearers[database] = Hearer(database)
        return found


def _begin_anew() -> None:
    # A fork has the memory of its parent and none of its threads.
    global _lock
    _lock = threading.Lock()
    _hearers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
