"""
A service is a small loop of the runtime: it starts, ticks and stops.

Each tick says in how many seconds the next one is due. Services of one process take
turns in one thread; any number of processes may run the same ones at once, because
each of their writes is guarded by the row it changes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from windlass.conf import Options
from windlass.db import Dialect
from windlass.runtime.outage import LOST, Outage

logger = logging.getLogger("windlass")

AFTER_AN_ERROR = 5.0


class Service(Protocol):
    """What the dispatcher runs."""

    name: str

    def tick(self) -> float:
        """Do what is due; give back the seconds until the next tick."""

    def database_returned(self) -> None:
        """Learn that the database was away and answers again."""


# What apps beside the engine have for each dispatcher, by name.
offered: dict[str, Callable[[Options], Service]] = {}


def serve(
    services: Sequence[Service],
    db: Dialect,
    *,
    wait: Callable[[float], bool],
    owed: dict[str, float],
    tell: Callable[[BaseException], None] = lambda error: None,
) -> None:
    """
    Run services until ``wait`` says stop. An error in one never stops another.

    ``owed`` tells others from when on a service owes a tick that succeeds: one that
    fails is tried again, and still owed.
    """
    due = {service.name: 0.0 for service in services}
    owed.update(dict.fromkeys(due, time.monotonic()))
    outage = Outage("dispatcher", db)
    while True:
        pause = 0.0
        for service in services:
            if time.monotonic() >= due[service.name]:
                try:
                    next_tick = time.monotonic() + service.tick()
                    due[service.name] = owed[service.name] = next_tick
                    if outage.since is not None:
                        outage.ended()
                        for each in services:
                            each.database_returned()
                except LOST as error:
                    pause = outage.began(error)
                except Exception as error:
                    logger.exception("%s: this tick failed.", service.name)
                    tell(error)
                    due[service.name] = time.monotonic() + AFTER_AN_ERROR
        next_due = min(due.values()) - time.monotonic()
        if wait(max(pause, next_due, 0.0)):
            return
