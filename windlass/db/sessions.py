"""
How long a session of the runtime may keep its locks while it says nothing.

The servers end a session that is idle inside of a transaction: PostgreSQL by
``idle_in_transaction_session_timeout``, MariaDB by ``idle_transaction_timeout``. MySQL
has no such setting. A transaction of the runtime takes milliseconds, so one that is
idle belongs to a process that stands still or to a host that is gone.
"""

from __future__ import annotations

import math
import threading
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.dispatch import receiver


class _Bounds(threading.local):
    """Seconds by database alias, for the calling thread."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}


_bounds = _Bounds()


def end_idle_transactions(database: str, seconds: float) -> None:
    """Let the server end the calling thread's transactions that are idle so long."""
    _bounds.seconds[database] = seconds
    if connections[database].connection is not None:
        _bind(connections[database], seconds)


def forget_bounds() -> None:
    """Leave the calling thread's connections to come as the project has them."""
    _bounds.seconds.clear()


@receiver(connection_created)
def _on_connection(*, connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    seconds = _bounds.seconds.get(connection.alias)
    if seconds is not None:
        _bind(connection, seconds)


def _bind(connection: Any, seconds: float) -> None:
    if connection.vendor == "postgresql" and _keeps_settings(connection.connection):
        milliseconds = math.ceil(seconds * 1000)
        sql = f"SET idle_in_transaction_session_timeout = {milliseconds}"
    elif connection.vendor == "mysql" and connection.mysql_is_mariadb:
        sql = f"SET SESSION idle_transaction_timeout = {math.ceil(seconds)}"
    else:
        return
    with connection.cursor() as cursor:
        cursor.execute(sql)


def _keeps_settings(raw: Any) -> bool:
    from django.db.backends.postgresql.psycopg_any import is_psycopg3

    from windlass.db.postgresql_sessions import is_direct

    # A pooler would give the session, and the setting, to somebody else's client.
    return is_psycopg3 and is_direct(raw)
