"""
What a session of PostgreSQL may remember: behind a transaction pooler, nothing.

A pooler may run each transaction on another server process. So nothing is prepared
there, the planner's settings are said inside of each transaction, and nobody listens.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from windlass.db.postgresql_statements import TUNE

TUNE_TRANSACTION = TUNE.replace("SET ", "SET LOCAL ")
# The driver's own number: from this statement on a plan is worth keeping.
PREPARE_AT = 5


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


class Straight:
    """
    The driver's own cursor on a user's connection.

    Its plans are kept from the fifth statement on: where the project said so
    (``prepare_threshold``), and else where the connection leads to the server itself. A
    pooler would run the next statement on a connection that never saw the plan.
    """

    def __init__(self, raw: Any) -> None:
        import psycopg

        said = raw.prepare_threshold is not None
        self._raw = raw
        self._prepares: bool | None = None
        self._until_asked = 0 if said else PREPARE_AT
        self._cursor: Any = (psycopg.Cursor if said else psycopg.ClientCursor)(raw)

    def fetch(self, sql: str, values: Sequence[Any]) -> Any:
        """Run a statement of ours and give back the first value."""
        self._until_asked -= 1
        if self._until_asked == 0 and is_direct(self._raw):
            import psycopg

            # Not None, so that the driver sees when the server forgets its plans, and
            # too high for the project's own statements.
            self._raw.prepare_threshold = sys.maxsize
            self._prepares, self._cursor = True, psycopg.Cursor(self._raw)
        return self._cursor.execute(sql, values, prepare=self._prepares).fetchone()[0]
