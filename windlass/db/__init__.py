"""
SQL: what differs between databases, and only that.

``dialect(database)`` gives the object through which every other layer reads and
moves jobs on that database. It is bound to the database once, here.
"""

from __future__ import annotations

from django.db import connections

from windlass.db.base import Dialect
from windlass.db.records import Claimed, Ended, Lane, NewJob, Returned

__all__ = ["Claimed", "Dialect", "Ended", "Lane", "NewJob", "Returned", "dialect"]


def dialect(database: str, *, owned: bool = False) -> Dialect:
    """
    Bind the fitting dialect to a database alias.

    ``owned`` says that the calling thread belongs to the runtime, so its connection
    may be tuned. A user's connection is never touched.
    """
    connection = connections[database]
    if connection.vendor == "postgresql":
        from windlass.db.postgresql import PostgreSQL as found
    elif connection.vendor == "sqlite":
        from windlass.db.sqlite import SQLite as found
    elif connection.vendor == "mysql":
        from windlass.db.mysql import MySQL as found
    else:
        found = Dialect
    return found(database, owned=owned)
