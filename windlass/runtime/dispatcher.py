"""
The dispatcher process: the services that look after jobs rather than run them.

It imports tasks to enqueue them, and runs no user code but receivers of signals.
Several at once do no harm, so every supervisor brings one.
"""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import Any

from windlass import db
from windlass.conf import Options
from windlass.models import Node
from windlass.runtime.flag import Flag
from windlass.runtime.janitor import Janitor
from windlass.runtime.limiter import Limiter
from windlass.runtime.node import Lease
from windlass.runtime.outage import LOST
from windlass.runtime.own_threads import own_thread
from windlass.runtime.pruner import Pruner
from windlass.runtime.scheduler import Scheduler
from windlass.runtime.service import Service, offered, serve
from windlass.runtime.telling import tell_error, tell_hooks, told

logger = logging.getLogger("windlass")


class Dispatcher:
    """Runs the services of one backend until told to stop."""

    def __init__(
        self,
        options: Options,
        *,
        name: str,
        supervisor_pid: int | None,
        node: int | None = None,
        recurring: bool = True,
    ) -> None:
        self.options, self.name = options, name
        wanted = options.recurring or options.scheduler.dynamic_tasks_enabled
        self.fires = bool(recurring and wanted)
        self.db = db.dialect(options.database_alias)
        self.told = Flag()
        self.exit_code = 0
        self.owed: dict[str, float] = {}
        self.lease = Lease(
            options,
            kind=Node.Kind.DISPATCHER,
            name=name,
            supervisor_pid=supervisor_pid,
            details=self._details,
            wake=lambda: None,
            lost=self._lost,
            node=node,
        )
        self.lease.ear = None

    def stop(self, why: str) -> None:
        """Ask for a stop; from a signal handler or another thread."""
        self.told.set()

    def force(self) -> None:
        """See ``stop``: nothing here takes long."""
        self.told.set()

    def _lost(self, why: str) -> None:
        if not self.told.is_set():
            logger.error("%s: stopping, because %s.", self.name, why)
            self.exit_code = 1
            self.told.set()

    def _details(self) -> dict[str, Any]:
        now = time.monotonic()
        # A copy, because the other thread may be adding the first ones.
        late = {
            name: round(max(0.0, now - owed), 1)
            for name, owed in dict(self.owed).items()
        }
        return {"services": list(self.owed), "late": late}

    def run(self) -> int:
        """Serve until told to stop; give back the exit code."""
        own_thread(self.options)
        if self.lease.register(wait=self.told.wait):
            self.lease.start()
            janitor = Janitor(self.options, lateness=self.lease.lateness)
            services: list[Service] = [
                janitor,
                Limiter(self.options),
                Pruner(self.options),
                *(make(self.options) for make in offered.values()),
            ]
            with self._scheduler(services):
                serve(
                    services,
                    self.db,
                    wait=self.told.wait,
                    owed=self.owed,
                    tell=partial(tell_error, self.options),
                )
                self._tell_stop()
            with suppress(*LOST):
                janitor.leave()
            self.lease.stop()
        self.db.close()
        return self.exit_code

    def _scheduler(self, services: list[Service]) -> AbstractContextManager[None]:
        if not self.fires:
            return nullcontext()
        services.append(Scheduler(self.options))
        return told(self.options, "scheduler", "scheduler", node=self.lease.node)

    def _tell_stop(self) -> None:
        node = self.lease.node
        if self.fires:
            tell_hooks(self.options, "scheduler", "stop", "scheduler", node=node)
        tell_hooks(self.options, "dispatcher", "stop", self.name, node=node)
