"""
A node's life: it registers, keeps its heartbeat, and leaves.

The thread that beats runs no user code, so a heartbeat says "this process lives"
and nothing about its tasks. On PostgreSQL it waits for notifications between beats.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import windlass
from windlass import db
from windlass.conf import Options
from windlass.models import Node
from windlass.runtime import identity, ledger
from windlass.runtime.outage import LOST, Outage

logger = logging.getLogger("windlass")


class Lease:
    """This process's row among the nodes, and the thread that keeps it fresh."""

    def __init__(
        self,
        options: Options,
        *,
        kind: str,
        name: str,
        supervisor_pid: int | None,
        details: dict[str, Any],
        wake: Callable[[], None],
        lost: Callable[[str], None],
    ) -> None:
        self.options, self.kind, self.name = options, kind, name
        self.supervisor_pid, self.details = supervisor_pid, details
        self.wake, self.lost = wake, lost
        self.node = identity.new_node_id()
        self.stopping = threading.Event()
        self.db = db.dialect(options.database_alias, owned=True)
        self.outage = Outage(f"{name} (heartbeat)", self.db)
        self.listens = options.wakeup != "poll" and self.db.notifies
        self._listening_on: Any = None
        self.thread = threading.Thread(
            target=self._beat_until_told, name="windlass-heartbeat", daemon=True
        )

    def register(self, *, wait: Callable[[float], bool]) -> bool:
        """Store this node, however long the database is away; False if told to stop."""
        own = db.dialect(self.options.database_alias)
        outage = Outage(self.name, own)
        return outage.persist(lambda: self._register(own), wait=wait)

    def _register(self, own: db.Dialect) -> None:
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
                "details": self.details,
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

    def _beat_until_told(self) -> None:
        due = time.monotonic()
        while not self.stopping.is_set():
            if self._orphaned():
                self.lost("its supervisor is gone")
            try:
                if time.monotonic() >= due:
                    due = time.monotonic() + self.options.process_heartbeat_interval
                    self._beat()
                self._wait(min(0.5, max(0.0, due - time.monotonic())))
                self.outage.ended()
            except LOST as error:
                self._listening_on = None
                self.stopping.wait(self.outage.began(error))
                due = time.monotonic()
        self.db.close()

    def _beat(self) -> None:
        ledger.touch(self.node)
        nodes = Node.objects.using(self.options.database_alias)
        if not nodes.filter(id=self.node).update(heartbeat_at=self.db.now()):
            self.lost("its row was removed: another node took its work over")

    def _wait(self, seconds: float) -> None:
        if not self.listens:
            self.stopping.wait(seconds)
            return
        connection = self.db.connection
        connection.ensure_connection()
        if connection.connection is not self._listening_on:
            self.db.listen(self.options.alias)
            self._listening_on = connection.connection
            self.wake()  # something may have come while nobody listened
        if self.db.wait_for_notification(seconds):
            self.wake()

    def _orphaned(self) -> bool:
        return self.supervisor_pid is not None and os.getppid() != self.supervisor_pid
