"""MariaDB or MySQL, by PyMySQL; measured for the drain only."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.databases import NAME, TABLES, Database


class MariaDB(Database):
    """A MariaDB server."""

    kind, title, now = "mariadb", "MariaDB", "utc_timestamp(6)"

    def connect(self, name: str | None) -> Any:
        """A connection in autocommit."""
        import pymysql

        get = os.environ.get
        return pymysql.connect(
            host=get("WINDLASS_TEST_MYSQL_HOST", "127.0.0.1"),
            port=int(get("WINDLASS_TEST_MYSQL_PORT", "3306")),
            user=get("WINDLASS_TEST_MYSQL_USER", "root"),
            password=get("WINDLASS_TEST_MYSQL_PASSWORD", ""),
            database=name,
            autocommit=True,
            connect_timeout=5,
        )

    def create(self) -> None:
        """Make the tables."""
        self._run(None, f"DROP DATABASE IF EXISTS {NAME}")
        self._run(None, f"CREATE DATABASE {NAME} CHARACTER SET utf8mb4")
        self.migrate()

    def fresh(self) -> None:
        """Start over with empty tables."""
        for table in TABLES:
            self.query(f"TRUNCATE {table}")

    def settle(self) -> None:
        """Leave stale statistics to nobody."""
        for table in TABLES:
            self.query(f"ANALYZE TABLE {table}")

    def query(self, sql: str) -> list[Sequence[Any]]:
        return self._run(NAME, sql)

    def server_pid(self) -> int | None:
        ((pid_file,),) = self._run(None, "SELECT @@pid_file")
        path = Path(pid_file)
        return int(path.read_text()) if path.exists() else None

    def version(self) -> str:
        ((version,),) = self._run(None, "SELECT version()")
        return f"MariaDB {version.split('-')[0]}"

    def drop(self) -> None:
        self._run(None, f"DROP DATABASE IF EXISTS {NAME}")

    def _run(self, name: str | None, sql: str) -> list[Sequence[Any]]:
        connection = self.connect(name)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return list(cursor.fetchall())
        finally:
            connection.close()
