"""
A node's life: it registers, keeps its heartbeat, and leaves.

The thread that beats runs no user code, so a heartbeat says "this process lives"
and nothing about its tasks. What it can say about its work goes into the details of
the row with each beat. On PostgreSQL it waits for notifications between beats.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import windlass
from windlass import db
from windlass.conf import Options
from windlass.db import cancels as requests
from windlass.jobs.queues import rank
from windlass.jobs.wakeups import SOMETHING, Deaf, wakeups
from windlass.models import Node
from windlass.runtime import identity, ledger
from windlass.runtime.outage import LOST, Outage
from windlass.runtime.own_threads import own_thread
from windlass.runtime.telling import tell_error

logger = logging.getLogger("windlass")

# Seconds between looks at who is gone, and at what somebody wants cancelled.
LOOK_EVERY = 0.5
# How long ends are told after somebody said that they are waited for. Who waits says
# so again in a third of that.
TELL_ENDS_FOR = 30.0
TAKEN_OVER = "its row was removed: another node took its work over"


# Seconds of a clock that nobody sets, and that goes on while a machine sleeps if the
# system has one that does.
clock: Callable[[], float] = time.monotonic
if hasattr(time, "CLOCK_BOOTTIME"):
    clock = partial(time.clock_gettime, time.CLOCK_BOOTTIME)


class Lease:
    """This process's row among the nodes, and the thread that keeps it fresh."""

    def __init__(
        self,
        options: Options,
        *,
        kind: str,
        name: str,
        supervisor_pid: int | None,
        details: Callable[[], dict[str, Any]],
        wake: Callable[[], None],
        lost: Callable[[str], None],
        cancels: Callable[[dict[str, str]], None] | None = None,
        queues: Sequence[str] = (),
        node: int | None = None,
    ) -> None:
        self.options, self.kind, self.name = options, kind, name
        self.supervisor_pid, self.details = supervisor_pid, details
        self.wake, self.lost, self.cancels = wake, lost, cancels
        self.node = identity.new_node_id() if node is None else node
        # Until when nobody else may have taken over what this node holds.
        self.valid_until = float("inf")
        self.stopping = threading.Event()
        self.db = db.dialect(options.database_alias, owned=True)
        self.outage = Outage(f"{name} (heartbeat)", self.db)
        self.queues = queues
        self.ear = wakeups(options).listen(
            db.channel(options.alias), db=self.db, queues=queues
        )
        self._look_at = self._tell_ends_until = 0.0
        self.thread = threading.Thread(
            target=self._live, name="windlass-heartbeat", daemon=True
        )

    def register(self, *, wait: Callable[[float], bool]) -> bool:
        """Store this node, however long the database is away; False if told to stop."""
        own = db.dialect(self.options.database_alias)
        outage = Outage(self.name, own)
        return outage.persist(lambda: self._register(own), wait=wait)

    def is_valid(self) -> bool:
        """Whether what this node holds is certainly still its own."""
        return clock() < self.valid_until

    def lateness(self) -> float:
        """Seconds since this node could last say that it lives."""
        return clock() - (self.valid_until - self.options.process_alive_threshold)

    def tells_ends(self) -> bool:
        """Whether somebody waits for the ends of jobs, as far as this node knows."""
        return time.monotonic() < self._tell_ends_until

    def _register(self, own: db.Dialect) -> None:
        self._renewed(clock())
        now = own.now()
        Node.objects.using(own.database).update_or_create(
            id=self.node,
            defaults={
                "kind": self.kind,
                "backend_alias": self.options.alias,
                "name": self.name,
                "host": identity.host(),
                "pid": os.getpid(),
                "process_started": identity.process_start(os.getpid()),
                "supervisor_pid": self.supervisor_pid,
                "started_at": now,
                "heartbeat_at": now,
                "version": windlass.__version__,
                "details": self.details(),
            },
        )

    def start(self) -> None:
        self.thread.start()

    def stop(self) -> None:
        """End the heartbeat and take the row away; nothing may be held any more."""
        self.stopping.set()
        nodes = Node.objects.using(self.options.database_alias)
        try:
            nodes.filter(id=self.node).delete()
        except LOST as error:
            logger.warning("%s: could not sign off (%s).", self.name, error)

    def _live(self) -> None:
        own_thread(self.options)
        try:
            self._beat_until_told()
        except Exception as error:
            logger.exception("%s: the heartbeat failed.", self.name)
            tell_error(self.options, error)
            self.lost("its heartbeat failed")
        finally:
            if self.ear is not None:
                self.ear.close()
            self.db.close()

    def _beat_until_told(self) -> None:
        due = time.monotonic()
        while not self.stopping.is_set():
            if self._orphaned():
                self.lost("its supervisor is gone")
            try:
                if time.monotonic() >= due:
                    due = time.monotonic() + self.options.process_heartbeat_interval
                    self._beat()
                if time.monotonic() >= self._look_at:
                    self._look_at = time.monotonic() + LOOK_EVERY
                    self._look_for_cancels()
                self._wait(min(LOOK_EVERY, max(0.0, due - time.monotonic())))
                self.outage.ended()
            except LOST as error:
                if self.outage.since is None:
                    tell_error(self.options, error)
                # Soon, because who finds the database back first looks for the silent.
                longest = self.options.process_heartbeat_interval
                self.stopping.wait(min(longest, self.outage.began(error)))
                due = time.monotonic()

    def _beat(self) -> None:
        ledger.touch(self.node)
        asked = clock()
        own = Node.objects.using(self.options.database_alias).filter(id=self.node)
        if own.update(heartbeat_at=self.db.now(), details=self.details()):
            self._renewed(asked)
        elif not self.stopping.is_set():
            self.valid_until = float("-inf")
            self.lost(TAKEN_OVER)

    def _renewed(self, asked: float) -> None:
        # From before the statement: the server's own mark of it is later.
        self.valid_until = asked + self.options.process_alive_threshold

    def _look_for_cancels(self) -> None:
        if self.cancels is not None:
            self.cancels(requests.cancel_requests(self.db, self.options.alias))

    def _wait(self, seconds: float) -> None:
        if self.ear is None:
            self.stopping.wait(seconds)
            return
        try:
            notes = self.ear.wait(seconds)
        except Deaf as why:
            if why.for_good:
                self._poll_instead()
            self.stopping.wait(seconds)
            return
        for note in notes:
            if note == db.CANCEL:
                self._look_at = 0.0
            elif note == db.AWAITED:
                self._tell_ends_until = time.monotonic() + TELL_ENDS_FOR
            elif note == SOMETHING or rank(self.queues, note) >= 0:
                self.wake()

    def _poll_instead(self) -> None:
        self.ear = None
        logger.warning(
            "%s: the database %r is behind a transaction pooler, so new jobs are found "
            "by polling. Set wakeup to poll, or connect to the server itself.",
            self.name,
            self.db.database,
        )

    def _orphaned(self) -> bool:
        return self.supervisor_pid is not None and os.getppid() != self.supervisor_pid
