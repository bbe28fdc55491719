"""
The raw loop: the same durable work on the same tables with the bare driver.

It is what a drain or an enqueue could be at most with these tables in Python: no
Django, no threads, no signals, no retries, no recovery, no fairness between queues.
Claims and ends are committed in batches like the engine's, each job's own start and
end are recorded, and the task leaves its mark.

``python -m bench.raw OPERATION N OUT``
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.databases import PostgreSQL, SQLite
from bench.marks import mark
from bench.produce import CHUNK, Answer, milliseconds

BATCH = 200
NAME = os.environ.get("WINDLASS_BENCH_NAME", "")
CLAIMED = """
    id, claim, backend_alias, queue_name, nice, task_path, args, kwargs, attempts,
    max_attempts, crashes, enqueued_at, available_at, history, metadata, policy
"""
KEPT = """
    id, enqueued_at, node, claim, max_attempts, backend_alias, queue_name, task_path,
    args, kwargs, metadata, progress, unique_key, policy, available_at, nice, attempts,
    crashes, history
"""
CLAIM = f"""
    UPDATE windlass_live SET node = 1, started_at = {{now}}, attempts = attempts + 1,
           claim = claim + 1
     WHERE {{row}} IN (
       SELECT {{row}} FROM windlass_live
        WHERE backend_alias = 'default' AND queue_name = 'default' AND nice = 0
          AND share = ''
          AND available_at <= {{now}} AND node IS NULL
        ORDER BY available_at LIMIT {BATCH} {{lock}})
    RETURNING {CLAIMED}
"""
ENDED = f"INSERT INTO windlass_ended ({KEPT}, state, started_at, finished_at)"
INSERT = """
    INSERT INTO windlass_live (id, backend_alias, queue_name, nice, task_path, args,
      kwargs, max_attempts, metadata, policy, enqueued_at, available_at)
    VALUES ({}, 'default', 'default', 0, 'bench.tasks.noop', {}, '{{}}', 1, NULL, NULL,
      {now}, {now})
"""


def main() -> None:
    """Do one operation on the database that the environment names."""
    kind = {"postgresql": Postgres, "sqlite": Lite}[
        os.environ["WINDLASS_BENCH_DATABASE"]
    ]
    operation: Callable[[Any, int], Answer] = OPERATIONS[sys.argv[1]]
    answer = operation(kind(), int(sys.argv[2]))
    Path(sys.argv[3]).write_text(json.dumps(answer))


class Postgres:
    """The statements in PostgreSQL's words, prepared."""

    now = "statement_timestamp()"
    claim_sql = CLAIM.format(now=now, row="ctid", lock="FOR UPDATE SKIP LOCKED")
    # Nothing joins the hot table: a plan made while it was empty stays good.
    claim_sql = claim_sql.replace("ctid IN (", "ctid = ANY(ARRAY(").replace(
        "SKIP LOCKED)", "SKIP LOCKED))"
    )
    end_sql = f"""
        WITH input AS MATERIALIZED (
          SELECT (x->>0)::uuid AS job, to_timestamp((x->>1)::float8) AS started,
                 to_timestamp((x->>2)::float8) AS finished
            FROM json_array_elements(%s::json) x),
        gone AS (DELETE FROM windlass_live USING input WHERE id = job
          AND id = ANY(ARRAY(SELECT job FROM input))
          RETURNING {KEPT}, 'succeeded', started, finished)
        {ENDED} SELECT * FROM gone
    """

    def __init__(self) -> None:
        self.connection = PostgreSQL(Path()).connect(NAME)
        self.connection.execute("SET enable_seqscan = off")
        self.connection.prepare_threshold = 0
        self.cursor = self.connection.cursor()

    def exchange(self, ended: list[Any]) -> list[Any]:
        """End these rows and claim the next, each in its own commit."""
        if ended:
            self.cursor.execute(self.end_sql, [json.dumps(ended)])
        return self.cursor.execute(self.claim_sql).fetchall()

    def calls(self, rows: list[Any]) -> list[tuple[str, int]]:
        return [(str(row[0]), row[6][0]) for row in rows]

    def insert(self, number: int) -> None:
        sql = INSERT.format("%s", "%s", now=self.now)
        self.cursor.execute(sql, [uuid.uuid4(), f"[{number}]"])

    def begin(self) -> None:
        self.cursor.execute("BEGIN")

    def commit(self) -> None:
        self.cursor.execute("COMMIT")

    def insert_all(self, n: int) -> None:
        sql = """COPY windlass_live (id, backend_alias, queue_name, nice, task_path,
            args, kwargs, max_attempts, enqueued_at, available_at) FROM STDIN"""
        now = self.cursor.execute("SELECT statement_timestamp()").fetchone()[0]
        line = "%s\tdefault\tdefault\t0\tbench.tasks.noop\t[%s]\t{}\t1\t%s\t%s\n"
        with self.cursor.copy(sql) as copy:
            for start in range(0, n, 1000):
                numbers = range(start, min(n, start + 1000))
                copy.write("".join([line % (_id(i), i, now, now) for i in numbers]))


class Lite:
    """The statements in SQLite's words."""

    now = "strftime('%Y-%m-%d %H:%M:%f', 'now')"
    claim_sql = CLAIM.format(now=now, row="rowid", lock="")
    end_sql = f"""{ENDED} SELECT {KEPT}, 'succeeded', ?, ? FROM windlass_live
        WHERE id = ?"""
    delete_sql = "DELETE FROM windlass_live WHERE id = ?"

    def __init__(self) -> None:
        self.connection = SQLite(Path()).connect(NAME)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")

    def exchange(self, ended: list[Any]) -> list[Any]:
        """End these rows and claim the next, in one commit."""
        self.begin()
        ends = [(_text(start), _text(end), id) for id, start, end in ended]
        self.connection.executemany(self.end_sql, ends)
        self.connection.executemany(self.delete_sql, [(id,) for id, *_ in ended])
        rows = self.connection.execute(self.claim_sql).fetchall()
        self.commit()
        return rows

    def calls(self, rows: list[Any]) -> list[tuple[str, int]]:
        return [(row[0], json.loads(row[6])[0]) for row in rows]

    def insert(self, number: int) -> None:
        sql = INSERT.format("?", "?", now=self.now)
        self.connection.execute(sql, [uuid.uuid4().hex, f"[{number}]"])

    def begin(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self.connection.execute("COMMIT")

    def insert_all(self, n: int) -> None:
        self.begin()
        rows = [(_id(number).hex, f"[{number}]") for number in range(n)]
        self.connection.executemany(INSERT.format("?", "?", now=self.now), rows)
        self.commit()


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def _id(number: int) -> uuid.UUID:
    # Ascending, as the ids of the engine are.
    return uuid.UUID(int=time.time_ns() << 64 | number)


def drain(loop: Postgres | Lite, n: int) -> Answer:
    """Claim, mark, end, until nothing is left."""
    ended: list[Any] = []
    while rows := loop.exchange(ended):
        ended = []
        for id, number in loop.calls(rows):
            started = time.time()
            mark(number)
            ended.append((id, started, time.time()))
    return {}


def listen(loop: Postgres, n: int) -> Answer:
    """Wait for notifications; claim and mark until n rows have come."""
    loop.connection.execute('LISTEN "windlass_default"')
    while n > 0:
        for _note in loop.connection.notifies(timeout=1.0, stop_after=1):
            pass
        for _id, number in loop.calls(loop.exchange([])):
            mark(number)
            n -= 1
    return {}


def one_by_one(loop: Postgres | Lite, n: int) -> Answer:
    """Insert n rows, each in a transaction of its own."""
    times = []
    begun = time.perf_counter()
    for number in range(n):
        before = time.perf_counter()
        loop.insert(number)
        times.append(time.perf_counter() - before)
    return {"rate": n / (time.perf_counter() - begun), **milliseconds(times)}


def in_transaction(loop: Postgres | Lite, n: int) -> Answer:
    """Insert n rows one by one in one transaction."""
    loop.insert(-1)
    begun = time.perf_counter()
    loop.begin()
    for number in range(n):
        loop.insert(number)
    loop.commit()
    return {"rate": n / (time.perf_counter() - begun)}


def all_at_once(loop: Postgres | Lite, n: int) -> Answer:
    """Insert n rows, 10,000 at once; the median rate."""
    loop.insert(-1)
    rates = []
    for _ in range(0, n, CHUNK):
        chunk = min(n, CHUNK)
        begun = time.perf_counter()
        loop.insert_all(chunk)
        rates.append(chunk / (time.perf_counter() - begun))
    return {"rate": statistics.median(rates)}


OPERATIONS = {
    "drain": drain,
    "listen": listen,
    "one-by-one": one_by_one,
    "in-transaction": in_transaction,
    "all-at-once": all_at_once,
}

if __name__ == "__main__":
    main()
