"""
What Django's migrations cannot say: the ``Job`` view, and how tables are stored.

Each function is called by one migration and belongs to it. The view's text differs
by database only in how it says "now" and how it names a type.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from windlass.db.due import due_in

NOW = {
    "postgresql": "statement_timestamp()",
    # SQLite's clock shows milliseconds; what is due within this one is due.
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f999', 'now'{local})",
    "mysql": "{server}",
}
# How each says a text, no time and no JSON of the very types that the columns have: of
# two branches that differ nowhere, a page is read in order, each by its own index.
TYPED = {
    "postgresql": ("({})::varchar(16)", "NULL::timestamptz", "NULL::jsonb"),
    "sqlite": ("CAST({} AS text)", "CAST(NULL AS numeric)", "CAST(NULL AS text)"),
    "mysql": ("{}", "NULL", "NULL"),
}
NAMED = {"postgresql": "({})::varchar(500)", "sqlite": "{}", "mysql": "{}"}
# Room on each page for the claim's new row version keeps every claim heap-only; the
# vacuum settings keep a table that turns over in seconds at its working size.
LIVE_STORAGE = """
    ALTER TABLE windlass_live SET (
      fillfactor = 45, autovacuum_vacuum_scale_factor = 0,
      autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
      autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000)
"""
ENDED_STORAGE = """
    ALTER TABLE windlass_ended SET (
      autovacuum_vacuum_insert_scale_factor = 0,
      autovacuum_vacuum_insert_threshold = 200000,
      autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 100000)
"""
# Failures are few among millions of ends, and what operators look for.
TROUBLED = """
    CREATE INDEX windlass_ended_troubled ON windlass_ended (finished_at)
     WHERE state <> 'succeeded'
"""
TROUBLED_WITHOUT_CONDITION = """
    CREATE INDEX windlass_ended_troubled ON windlass_ended (state, finished_at)
"""
# Elsewhere names are equal when they are the same characters. The collations that
# MariaDB and MySQL choose would also equate case, accents, and all emoji.
EXACT_NAMES = """
    ALTER TABLE {table}
      MODIFY backend_alias varchar(64) CHARACTER SET utf8mb4 COLLATE {collation}
        NOT NULL,
      MODIFY queue_name varchar(255) CHARACTER SET utf8mb4 COLLATE {collation}
        NOT NULL,
      MODIFY task_path varchar(500) CHARACTER SET utf8mb4 COLLATE {collation}
        NOT NULL,
      MODIFY unique_key varchar(255) CHARACTER SET utf8mb4 COLLATE {collation},
      MODIFY name varchar(255) CHARACTER SET utf8mb4 COLLATE {collation}
"""
EXACT_SHARES = """
    ALTER TABLE windlass_live
      MODIFY share varchar(255) CHARACTER SET utf8mb4 COLLATE {collation}
        NOT NULL DEFAULT ''
"""
# No constraint of the model, because only some databases have one for some rows.
UNIQUE = """
    CREATE UNIQUE INDEX windlass_live_unique
     ON windlass_live (backend_alias, unique_key)
"""
EXACT_RATES = """
    ALTER TABLE windlass_rate
      MODIFY backend_alias varchar(64) CHARACTER SET utf8mb4 COLLATE {collation}
        NOT NULL,
      MODIFY `key` varchar(255) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL
"""
EXACT_LIMITS = """
    ALTER TABLE {table}
      MODIFY `key` varchar(400) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL
"""
# Everybody locks keys in this order, which is Python's; and it compares fastest.
BY_BYTES = 'ALTER TABLE {table} ALTER COLUMN key TYPE varchar(400) COLLATE "C"'
# What is remembered under one name is no answer to another.
EXACT_MEMOS = """
    ALTER TABLE windlass_memo
      MODIFY kind varchar(8) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL,
      MODIFY name varchar(255) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL
"""
EXACT_EVENTS = """
    ALTER TABLE windlass_event
      MODIFY name varchar(255) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL,
      MODIFY event_id varchar(255) CHARACTER SET utf8mb4 COLLATE {collation}
"""
EXACT_QUEUES = """
    ALTER TABLE windlass_queue
      MODIFY backend_alias varchar(64) CHARACTER SET utf8mb4 COLLATE {collation}
        NOT NULL,
      MODIFY name varchar(255) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL
"""
EXACT_KEYS = """
    ALTER TABLE {table}
      MODIFY backend_alias varchar(64) CHARACTER SET utf8mb4 COLLATE {collation}
        NOT NULL,
      MODIFY `key` varchar(255) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL
"""


def name_limits_exactly(schema_editor: Any) -> None:
    """Let keys of concurrency limits be equal when they are the same characters."""
    if schema_editor.connection.vendor == "postgresql":
        for table in ("windlass_slot", "windlass_waiter"):
            schema_editor.execute(BY_BYTES.format(table=table))
    if schema_editor.connection.vendor == "mysql":
        for table in ("windlass_slot", "windlass_waiter"):
            schema_editor.execute(
                EXACT_LIMITS.format(table=table, collation=_exact(schema_editor))
            )


def name_rates_exactly(schema_editor: Any) -> None:
    """Let keys of rate limits be equal when they are the same characters."""
    if schema_editor.connection.vendor == "mysql":
        schema_editor.execute(EXACT_RATES.format(collation=_exact(schema_editor)))


def name_queues_exactly(schema_editor: Any) -> None:
    """Let names of queues be equal when they are the same characters."""
    if schema_editor.connection.vendor == "mysql":
        schema_editor.execute(EXACT_QUEUES.format(collation=_exact(schema_editor)))


def name_memos_exactly(schema_editor: Any) -> None:
    """Let names of durable steps and events be equal when all characters are."""
    if schema_editor.connection.vendor == "mysql":
        for statement in (EXACT_MEMOS, EXACT_EVENTS):
            schema_editor.execute(statement.format(collation=_exact(schema_editor)))


def create(schema_editor: Any) -> None:
    """Create the view, the extra index and the storage parameters."""
    vendor = schema_editor.connection.vendor
    if vendor == "mysql":
        collation = _exact(schema_editor)
        for table in ("windlass_live", "windlass_ended"):
            schema_editor.execute(EXACT_NAMES.format(table=table, collation=collation))
        schema_editor.execute(EXACT_SHARES.format(collation=collation))
    # Where an index may be of some rows only, jobs without a key do not pay for it.
    partial = "" if vendor == "mysql" else " WHERE unique_key IS NOT NULL"
    schema_editor.execute(UNIQUE + partial)
    schema_editor.execute(_job_view(vendor), params=None)
    if vendor == "mysql":
        schema_editor.execute(TROUBLED_WITHOUT_CONDITION)
    else:
        schema_editor.execute(TROUBLED)
    if vendor == "postgresql":
        schema_editor.execute(LIVE_STORAGE)
        schema_editor.execute(ENDED_STORAGE)


def drop(schema_editor: Any) -> None:
    """Undo ``create``; the tables' own removal takes the index and parameters."""
    schema_editor.execute("DROP VIEW windlass_job")


def name_schedules_exactly(schema_editor: Any) -> None:
    """Make keys of schedules equal only when they are the same characters."""
    if schema_editor.connection.vendor == "mysql":
        for table in ("windlass_schedule", "windlass_schedule_mark"):
            schema_editor.execute(
                EXACT_KEYS.format(table=table, collation=_exact(schema_editor))
            )


def _exact(schema_editor: Any) -> str:
    is_mariadb = schema_editor.connection.mysql_is_mariadb
    return "utf8mb4_nopad_bin" if is_mariadb else "utf8mb4_0900_bin"


def _job_view(vendor: str) -> str:
    text, no_time, no_value = TYPED[vendor]
    name = NAMED[vendor].format("COALESCE(name, task_path)")
    now = NOW[vendor].format(
        local="" if settings.USE_TZ else ", 'localtime'",
        server="UTC_TIMESTAMP(6)" if settings.USE_TZ else _local_time_in_mysql(),
    )
    state = f"""CASE WHEN node IS NOT NULL THEN 'running'
                WHEN hold <> '' THEN 'blocked'
                WHEN available_at > {now} THEN 'scheduled'
                ELSE 'ready' END"""
    shared = (
        "backend_alias, queue_name, -nice AS priority, args, kwargs,"
        " {} AS run_after, enqueued_at, started_at"
    )
    due = due_in(vendor)
    # An expression too, for the same reason: a column would have SQLite's affinity.
    ended = "+available_at" if vendor == "sqlite" else "available_at"
    rest = "attempts, max_attempts, crashes, node, metadata, progress, policy, history,"
    rest += " unique_key, plan, workspace"
    return f"""
    CREATE VIEW windlass_job AS
    SELECT id, {name} AS name, task_path,
           {text.format(state)} AS state, {text.format("''")} AS reason,
           {shared.format(due)}, {no_time} AS finished_at, {no_value} AS return_value,
           {rest}
      FROM windlass_live
    UNION ALL
    SELECT id, {name} AS name, task_path, state, reason,
           {shared.format(ended)}, finished_at, return_value, {rest}
      FROM windlass_ended
    """


def _local_time_in_mysql() -> str:
    # The session's own zone is the server's. Without the server's tables of zones,
    # today's offset has to do: states then show an hour off in the other season.
    offset = datetime.now(timezone.get_default_timezone()).utcoffset() or timedelta()
    return (
        f"COALESCE(CONVERT_TZ(UTC_TIMESTAMP(6), '+00:00', '{settings.TIME_ZONE}'),"
        f" UTC_TIMESTAMP(6) + INTERVAL {int(offset.total_seconds())} SECOND)"
    )
