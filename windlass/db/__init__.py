"""
SQL: what differs between databases, and only that.

``dialect(database)`` gives the object through which every other layer reads and
moves jobs on that database. It is bound to the database once, here.
"""

from __future__ import annotations

from typing import Any

from django.core.signals import setting_changed
from django.db import connections
from django.dispatch import receiver

from windlass.db.base import Dialect
from windlass.db.records import (
    AWAITED,
    CANCEL,
    Advanced,
    Claimed,
    Ended,
    Lane,
    NewJob,
    Returned,
    channel,
    ends_channel,
)
from windlass.db.sessions import end_idle_transactions, forget_bounds
from windlass.db.slots import Place, Slots

__all__ = [
    "AWAITED",
    "CANCEL",
    "Advanced",
    "Claimed",
    "Dialect",
    "Ended",
    "Lane",
    "NewJob",
    "Place",
    "Returned",
    "Slots",
    "channel",
    "dialect",
    "end_idle_transactions",
    "ends_channel",
    "forget_bounds",
    "slots_of",
]


def dialect(database: str, *, owned: bool = False) -> Dialect:
    """
    Bind the fitting dialect to a database alias.

    ``owned`` says that the calling thread belongs to the runtime, so its connection
    may be tuned. A user's connection is never touched.
    """
    if owned:
        return _bind(database, owned=True)
    found = _shared.get(database)
    if found is None:
        found = _shared[database] = _bind(database, owned=False)
    return found


def slots_of(db: Dialect) -> Slots:
    """The slots of concurrency limits on the database of a dialect."""
    found: Slots | None = db._slots
    if found is None:
        make: type[Slots] = Slots
        if db.connection.vendor == "postgresql":
            from windlass.db.postgresql_slots import PostgreSQLSlots as make
        found = db._slots = make(db)
    return found


# A dialect that owns no connection has no state, so all threads may share it.
_shared: dict[str, Dialect] = {}


@receiver(setting_changed)
def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting == "DATABASES":
        _shared.clear()


def _bind(database: str, *, owned: bool) -> Dialect:
    found: type[Dialect]
    vendor = connections[database].vendor
    if vendor == "postgresql":
        from windlass.db.postgresql import PostgreSQL as found
    elif vendor == "sqlite":
        from windlass.db.sqlite import SQLite as found
    elif vendor == "mysql":
        from windlass.db.mysql import MySQL as found
    else:
        found = Dialect
    return found(database, owned=owned)
