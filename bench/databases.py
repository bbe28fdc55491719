"""
The databases that are measured: made, filled by SQL, looked at, dropped.

Each measurement has a fresh database, cloned from one that was migrated once. All
are named ``windlass_bench...``; nothing else on a server is touched, except that
PostgreSQL is asked for a CHECKPOINT, so that every measurement starts alike.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NAME = f"windlass_bench_{os.getpid()}"
TABLES = ("windlass_live", "windlass_ended", "windlass_node")
# Due or running rows: by the index of the claim, however large the tables are.
DUE = """
    SELECT 1 FROM windlass_live WHERE backend_alias = 'default'
    AND queue_name = 'default' AND nice = 0 AND available_at <= {now} LIMIT 1
"""


class Database:
    """One kind of database, and the one of its kind that is measured."""

    kind = title = now = ""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.name = NAME
        self._connection: Any = None

    def environment(self) -> dict[str, str]:
        """What a child process must know to work on this database."""
        return {"WINDLASS_BENCH_DATABASE": self.kind, "WINDLASS_BENCH_NAME": self.name}

    def migrate(self) -> None:
        """Create the tables, as a user would."""
        subprocess.run(
            [sys.executable, "-m", "django", "migrate", "--run-syncdb", "-v", "0"],
            env=os.environ
            | self.environment()
            | {"DJANGO_SETTINGS_MODULE": "bench.settings"},
            cwd=ROOT,
            check=True,
        )

    def query(self, sql: str) -> list[Sequence[Any]]:
        """Run one statement in a connection of its own kind; give back its rows."""
        raise NotImplementedError

    def busy(self) -> bool:
        """Whether a job is ready or running."""
        return bool(self.query(DUE.format(now=self.now)))

    def ended(self) -> dict[str, int]:
        """How many jobs have ended in each state."""
        return dict(
            self.query("SELECT state, count(*) FROM windlass_ended GROUP BY state")  # type: ignore[arg-type]
        )

    def multiply(self, table: str, rows: int, **changes: str) -> None:
        """Add copies of a table's only row; ``changes`` are SQL over the number n."""
        columns = self.columns(table)
        chosen = ", ".join(changes.get(name, f"t.{name}") for name in columns)
        self.query(
            f"INSERT INTO {table} ({', '.join(columns)}) {self.series(rows)}"
            f" SELECT {chosen} FROM (SELECT * FROM {table} LIMIT 1) t, g"
        )

    def columns(self, table: str) -> list[str]:
        """The names of a table's columns."""
        raise NotImplementedError

    def series(self, rows: int) -> str:
        """A WITH clause for a relation g of the numbers n from 1."""
        return (
            "WITH RECURSIVE g (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g"
            f" WHERE n < {rows})"
        )


class PostgreSQL(Database):
    """A PostgreSQL server, by psycopg 3."""

    kind, title, now = "postgresql", "PostgreSQL", "statement_timestamp()"
    ascending_id = "lpad(to_hex(n), 32, '0')::uuid"
    a_year_away = "now() + interval '1 year' + n * interval '1 second'"
    two_days_ago = "now() - interval '2 days' + n * interval '1 millisecond'"

    def connect(self, name: str) -> Any:
        """A connection in autocommit; also for the session with an old snapshot."""
        import psycopg

        get = os.environ.get
        return psycopg.connect(
            host=get("WINDLASS_TEST_PG_HOST", "127.0.0.1"),
            port=get("WINDLASS_TEST_PG_PORT", "5432"),
            user=get("WINDLASS_TEST_PG_USER", "postgres"),
            password=get("WINDLASS_TEST_PG_PASSWORD", ""),
            dbname=name,
            autocommit=True,
            connect_timeout=5,
        )

    def create(self) -> None:
        """Make the migrated template."""
        self.name = f"{NAME}_template"
        self._admin(f"DROP DATABASE IF EXISTS {self.name}")
        self._admin(f"CREATE DATABASE {self.name}")
        self.migrate()
        self.name = NAME

    def fresh(self) -> None:
        """Start over with empty tables."""
        self.close()
        self._admin(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")
        self._admin(f"CREATE DATABASE {self.name} TEMPLATE {self.name}_template")

    def settle(self) -> None:
        """Leave no maintenance of the rows just written to the measurement."""
        import psycopg

        self.query("VACUUM ANALYZE")
        with suppress(psycopg.errors.InsufficientPrivilege):
            self.query("CHECKPOINT")

    def query(self, sql: str) -> list[Sequence[Any]]:
        if self._connection is None:
            self._connection = self.connect(self.name)
        cursor = self._connection.execute(sql)
        return cursor.fetchall() if cursor.description else []

    def snapshot(self) -> Any:
        """A session that holds a snapshot of now, until it is closed."""
        connection = self.connect(self.name)
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT count(*) FROM windlass_node")
        return connection

    def server_pid(self) -> int | None:
        """The server's main process, if it runs on this machine."""
        with self.connect("postgres") as connection:
            path = Path(f"/proc/{connection.info.backend_pid}/stat")
            text = path.read_text() if path.exists() else ""
        if "(postgres)" not in text:
            return None
        return int(text.rsplit(")", 1)[1].split()[1])

    def version(self) -> str:
        with self.connect("postgres") as connection:
            version = connection.info.server_version
        return f"PostgreSQL {version // 10000}.{version % 10000}"

    def columns(self, table: str) -> list[str]:
        cursor = self.connect(self.name).execute(f"SELECT * FROM {table} LIMIT 0")
        return [column.name for column in cursor.description]

    def series(self, rows: int) -> str:
        return f"WITH g (n) AS (SELECT * FROM generate_series(1, {rows}))"

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def drop(self) -> None:
        self.close()
        for name in (NAME, f"{NAME}_template"):
            self._admin(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _admin(self, sql: str) -> None:
        with self.connect("postgres") as connection:
            connection.execute(sql)


class SQLite(Database):
    """A file on a real disk, written ahead and with full synchronisation."""

    kind, title = "sqlite", "SQLite"
    now = "strftime('%Y-%m-%d %H:%M:%f', 'now')"
    ascending_id = "printf('%032x', n)"
    a_year_away = "strftime('%Y-%m-%d %H:%M:%f', 'now', '1 year', n || ' seconds')"
    two_days_ago = (
        "strftime('%Y-%m-%d %H:%M:%f', 'now', '-2 days', (n / 1000.0) || ' seconds')"
    )

    def connect(self, name: str) -> sqlite3.Connection:
        """A connection in autocommit."""
        return sqlite3.connect(name, timeout=30, isolation_level=None)

    def create(self) -> None:
        """Make the migrated template."""
        self._template = str(self.directory / "template.sqlite3")
        self.name = self._template
        self.migrate()
        self.name = str(self.directory / "measured.sqlite3")

    def fresh(self) -> None:
        """Start over with empty tables."""
        for suffix in ("-wal", "-shm", "-journal"):
            Path(self.name + suffix).unlink(missing_ok=True)
        shutil.copy(self._template, self.name)

    def settle(self) -> None:
        """Leave no maintenance of the rows just written to the measurement."""
        self.query("ANALYZE")
        self.query("PRAGMA wal_checkpoint(TRUNCATE)")

    def query(self, sql: str) -> list[Sequence[Any]]:
        connection = self.connect(self.name)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    def snapshot(self) -> sqlite3.Connection:
        """A session that holds a snapshot of now, until it is closed."""
        connection = self.connect(self.name)
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM windlass_node").fetchall()
        return connection

    def server_pid(self) -> int | None:
        return None

    def version(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}"

    def columns(self, table: str) -> list[str]:
        return [row[1] for row in self.query(f"PRAGMA table_info({table})")]

    def drop(self) -> None:
        """Nothing: the directory is removed with all in it."""
