"""
What a session of PostgreSQL may remember: behind a transaction pooler, nothing.

A pooler may run each transaction on another server process. So nothing is prepared
there, the planner's settings are said inside of each transaction, and nobody listens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from windlass.db.postgresql_statements import TUNE

TUNE_TRANSACTION = TUNE.replace("SET ", "SET LOCAL ")


def is_direct(raw: Any) -> bool:
    """Whether a connection of psycopg 3 leads to the server itself."""
    import psycopg

    # A pooler speaks for many server processes, so its numbers are its own.
    asked = psycopg.ClientCursor(raw).execute("SELECT pg_backend_pid()").fetchall()
    return bool(asked == [(raw.info.backend_pid,)])


def own_cursor(raw: Any) -> Any:
    """Make the runtime's cursor on a connection of its own."""
    import psycopg

    if not is_direct(raw):
        return PooledCursor(raw)
    raw.execute(TUNE)
    raw.prepare_threshold = 0
    return psycopg.Cursor(raw)


class PooledCursor:
    """A cursor whose every statement brings what a session would remember."""

    def __init__(self, raw: Any) -> None:
        import psycopg

        self._raw, self._cursor = raw, psycopg.Cursor(raw)

    def execute(self, sql: str, values: Sequence[Any], *, prepare: bool) -> Any:
        """Run one statement in a transaction of its own, or in the one around it."""
        with self._raw.transaction():
            self._raw.execute(TUNE_TRANSACTION)
            return self._cursor.execute(sql, values, prepare=False)
