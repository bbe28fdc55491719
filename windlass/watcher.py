"""
The watcher: one thread in each process looks out for all jobs that are waited for.

It has a connection of its own and lives as long as anybody waits. Where the database
notifies, it asks all workers to tell the ends of jobs, and listens. It looks at the
tables as well, for all who wait at once: a note may be lost, and elsewhere there is
none.
"""

from __future__ import annotations

import copy
import logging
import os
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import Error

from windlass import conf, db
from windlass.jobs.wakeups import Deaf, Ear, wakeups
from windlass.models import EndedJob, Job, LiveJob
from windlass.models.view import parse_id

logger = logging.getLogger("windlass")

# Seconds between looks: at first and where nobody notifies, and where somebody does.
SOON, SELDOM = 0.05, 2.0
# How many jobs one look may ask for in a second, and in one statement.
LOOKS, IN_ONE = 10_000, 1_000
# Workers tell ends for three times as long after they were asked to.
ASK_EVERY = 10.0

Told = Callable[[Job | None], None]


@contextmanager
def watched(id: uuid.UUID, backend_alias: str, told: Told) -> Iterator[None]:
    """Have the watcher look out for a job, as long as this is the context."""
    with _lock:
        watcher = _watchers.get(backend_alias)
        if watcher is None:
            watcher = _watchers[backend_alias] = Watcher(backend_alias)
    watcher.add(id, told)
    try:
        yield
    finally:
        watcher.remove(id, told)


class Watcher:
    """Looks out for the ends of one backend's jobs, on behalf of all who wait."""

    def __init__(self, backend_alias: str) -> None:
        self.backend_alias = backend_alias
        options = conf.options(backend_alias)
        self.db = db.dialect(options.database_alias)
        self.lock = threading.Lock()
        self.waiting: dict[uuid.UUID, list[Told]] = defaultdict(list)
        self.attention = threading.Event()
        self.thread: threading.Thread | None = None

    def add(self, id: uuid.UUID, told: Told) -> None:
        """Tell somebody when a job has ended, or None when it is gone."""
        with self.lock:
            self.waiting[id].append(told)
            # Raised by one who left last, it would keep the thread from resting.
            self.attention.clear()
            if self.thread is None:
                self.thread = threading.Thread(
                    target=self._watch, name="windlass-waiting", daemon=True
                )
                self.thread.start()

    def remove(self, id: uuid.UUID, told: Told) -> None:
        """Tell somebody no more."""
        with self.lock:
            if id in self.waiting:
                if told in self.waiting[id]:
                    self.waiting[id].remove(told)
                if not self.waiting[id]:
                    del self.waiting[id]
            if not self.waiting:
                self.attention.set()

    def _watch(self) -> None:
        # What this thread has seen alive: another may begin before it is gone.
        seen: set[uuid.UUID] = set()
        try:
            while self._goes_on():
                try:
                    self._watch_until_nobody_waits(seen)
                except Error as error:
                    logger.debug("Who waits for jobs looks again: %s", error)
                    self.db.close()
                    self.attention.wait(SOON)
                except Exception:
                    # Others wait as well, and nobody else would tell them.
                    logger.exception("The watcher of jobs failed and looks again.")
                    self.attention.wait(SELDOM)
        finally:
            self.db.close()

    def _goes_on(self) -> bool:
        with self.lock:
            if self.waiting:
                return True
            self.attention.clear()
            self.thread = None
            return False

    def _watch_until_nobody_waits(self, seen: set[uuid.UUID]) -> None:
        carrier = wakeups(conf.options(self.backend_alias))
        ear = carrier.listen(db.ends_channel(self.backend_alias), db=self.db)
        ask_at = look_at = 0.0
        pause = SOON
        try:
            while self.waiting:
                try:
                    if ear is not None and time.monotonic() >= ask_at:
                        # Who asks hears already.
                        self._hear(ear, 0)
                        ask_at = time.monotonic() + ASK_EVERY
                        channel = db.channel(self.backend_alias)
                        carrier.tell(channel, db.AWAITED, self.db)
                    self._wait(ear, max(0.0, look_at - time.monotonic()))
                    hears = ear is not None
                except Deaf as why:
                    ear, hears = None if why.for_good else ear, False
                    self.attention.wait(SOON)
                if time.monotonic() >= look_at:
                    self._look(seen)
                    pause = min(SELDOM, 2 * pause) if hears else SOON
                    look_at = time.monotonic() + max(pause, len(self.waiting) / LOOKS)
        finally:
            if ear is not None:
                ear.close()

    def _wait(self, ear: Ear | None, seconds: float) -> None:
        if ear is None:
            self.attention.wait(seconds)
        else:
            # In slices, for one who leaves last cannot interrupt the wait for a note.
            self._hear(ear, min(seconds, 0.2))

    def _hear(self, ear: Ear, seconds: float) -> None:
        notes = ear.wait(seconds)
        with self.lock:
            ids = [parse_id(id) for note in notes for id in note.split()]
            known = [id for id in ids if id is not None and id in self.waiting]
        if known:
            self._tell(known)

    def _look(self, seen: set[uuid.UUID]) -> None:
        with self.lock:
            ids = list(self.waiting)
        for start in range(0, len(ids), IN_ONE):
            some = ids[start : start + IN_ONE]
            database = self.db.database
            # Live first: what ends in between is seen, then, among the ended.
            live = set(
                LiveJob.objects.using(database)
                .filter(pk__in=some)
                .values_list("pk", flat=True)
            )
            rest = [id for id in some if id not in live]
            ended = set(
                EndedJob.objects.using(database)
                .filter(pk__in=rest)
                .values_list("pk", flat=True)
            )
            self._tell(list(ended))
            for id in rest:
                if id not in ended and id in seen:
                    self._deliver(id, None)
            seen |= live
        seen &= set(ids)

    def _tell(self, ids: list[uuid.UUID]) -> None:
        jobs = Job.objects.using(self.db.database)
        for start in range(0, len(ids), IN_ONE):
            for job in jobs.filter(pk__in=ids[start : start + IN_ONE]):
                if job.finished_at is not None:
                    self._deliver(job.pk, job)

    def _deliver(self, id: uuid.UUID, job: Job | None) -> None:
        with self.lock:
            waiting = self.waiting.pop(id, [])
        for told in waiting:
            told(copy.copy(job))


_lock = threading.Lock()
_watchers: dict[str, Watcher] = {}


def _begin_anew() -> None:
    # A fork has the memory of its parent and none of its threads.
    global _lock
    _lock = threading.Lock()
    _watchers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
