"""What user code may leave in a thread's database connections, and how it goes."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.db import Error, connections, reset_queries
from django.db.backends.signals import connection_created
from django.dispatch import receiver


class _Connected(threading.local):
    """Whether this thread has ever connected to a database."""

    ever = False


_connected = _Connected()


@receiver(connection_created)
def _note(**kwargs: Any) -> None:
    _connected.ever = True


def tidy_connections() -> None:
    """
    Leave no trace of a job in the thread's database connections.

    As Django does between requests, but a healthy connection is kept for the next
    job even with ``CONN_MAX_AGE = 0``: connecting takes longer than most jobs.
    """
    # To ask Django for a thread's connections costs more than a short job does.
    if not _connected.ever:
        return
    for connection in connections.all(initialized_only=True):
        if connection.connection is not None:
            # A driver may refuse to close what a task has closed before.
            with suppress(Error):
                _tidy(connection)
    if settings.DEBUG:
        reset_queries()


def _tidy(connection: Any) -> None:
    if _is_spoilt(connection):
        # Django keeps what is closed inside a block, for the block's end to see.
        connection.in_atomic_block = False
        connection.close()
    elif (
        connection.errors_occurred
        or connection.settings_dict["CONN_MAX_AGE"]
        or not connection.get_autocommit()
    ):
        connection.close_if_unusable_or_obsolete()


def _is_spoilt(connection: Any) -> bool:
    # What the drivers know without asking the server: a task closed it, or left a
    # transaction open that nobody will ever end.
    raw = connection.connection
    if connection.in_atomic_block or connection.needs_rollback:
        return True
    if connection.vendor == "postgresql":
        return bool(raw.info.transaction_status)
    try:
        return bool(getattr(raw, "in_transaction", False)) or not (
            getattr(raw, "open", True)
        )
    except connection.Database.Error:
        return True
