"""
What a database says of itself, as far as it matters to jobs.

Each function reads and changes nothing. What a database does not have, it leaves out.
"""

from __future__ import annotations

from typing import Any

from django.db import connections

from windlass.db.base import Dialect


def settings(db: Dialect) -> dict[str, str]:
    """Read the settings that decide whether a commit lasts and what it sees."""
    asked = {
        "sqlite": {"journal_mode": "PRAGMA journal_mode"},
        "postgresql": {"synchronous_commit": "SHOW synchronous_commit"},
        "mysql": {
            "isolation": "SHOW VARIABLES WHERE Variable_name IN "
            "('transaction_isolation', 'tx_isolation')",
            "flush_log": "SHOW VARIABLES LIKE 'innodb_flush_log_at_trx_commit'",
        },
    }.get(db.connection.vendor, {})
    # The last column is the value, whether the name comes with it or not.
    return {name: str(row[-1]) for name, sql in asked.items() if (row := _row(db, sql))}


def version(db: Dialect) -> str:
    """Name the server and its version, or raise if Django does not support it."""
    connection = connections[db.database]
    connection.ensure_connection()
    connection.check_database_version_supported()
    numbers = ".".join(str(part) for part in connection.get_database_version())
    return f"{connection.display_name} {numbers}"


def driver(db: Dialect) -> str:
    """Name the driver and its version."""
    connection: Any = connections[db.database]
    module = connection.Database
    return f"{module.__name__} {getattr(module, '__version__', '')}".rstrip()


def oldest_snapshot(db: Dialect) -> float | None:
    """Seconds that the oldest snapshot of this database has been held by others."""
    if db.connection.vendor != "postgresql":
        return None
    row = _row(
        db,
        "SELECT extract(epoch FROM max(clock_timestamp() - xact_start))"
        " FROM pg_stat_activity WHERE datname = current_database()"
        " AND backend_xmin IS NOT NULL AND pid <> pg_backend_pid()",
    )
    return float(row[0]) if row and row[0] is not None else 0.0


def tables(db: Dialect) -> dict[str, tuple[int, int]]:
    """Bytes and dead rows of the two tables of jobs, where the server counts them."""
    if db.connection.vendor != "postgresql":
        return {}
    with db.connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname, pg_total_relation_size(relid), n_dead_tup"
            " FROM pg_stat_user_tables"
            " WHERE relname IN ('windlass_live', 'windlass_ended')"
        )
        return {name: (size, dead) for name, size, dead in cursor.fetchall()}


def _row(db: Dialect, sql: str) -> Any:
    with db.connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()
