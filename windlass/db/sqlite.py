"""
SQLite: one writer at a time, so as few and as short write transactions as possible.

Each process of the runtime writes from one thread, and puts the end of its last
batch and its next claim into one ``BEGIN IMMEDIATE``. Whether there may be work is
asked with ``PRAGMA data_version``, which reads no table.

The runtime turns its database file to WAL, once, because readers then never wait
for it; the mode is a property of the file. Commits are durable (``synchronous =
FULL``); grouping makes that nearly as fast as not.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.utils import timezone

from windlass.db.base import STEP, Dialect
from windlass.db.records import (
    CLAIMED_COLUMNS,
    KEPT_COLUMNS,
    Claimed,
    Ended,
    Lane,
    NewJob,
    Returned,
)

NEW_COLUMNS = (
    "id, backend_alias, queue_name, nice, task_path, args, kwargs, max_attempts,"
    " metadata, policy, enqueued_at, available_at"
)
INSERT = f"""INSERT INTO windlass_live ({NEW_COLUMNS})
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"""
CLAIM = f"""
    UPDATE windlass_live SET node = ?, started_at = ?, attempts = attempts + 1,
           claim = claim + 1
     WHERE rowid IN (
       SELECT rowid FROM windlass_live INDEXED BY windlass_live_claim
        WHERE backend_alias = ? AND queue_name = ? AND nice = ?
          AND available_at <= ? AND node IS NULL
        ORDER BY available_at LIMIT ?)
    RETURNING {", ".join(CLAIMED_COLUMNS)}
"""
_KEPT = ", ".join(KEPT_COLUMNS)
FINISH = f"""
    INSERT INTO windlass_ended ({_KEPT}, attempts, crashes, state, reason,
           started_at, finished_at, return_value, history)
    SELECT {_KEPT}, attempts - ?, crashes + ?, ?, ?, ?, ?, ?, COALESCE(?, history)
      FROM windlass_live WHERE id = ? AND claim = ? AND node = ?
"""
DELETE = "DELETE FROM windlass_live WHERE id = ? AND claim = ? AND node = ?"
PUT_BACK = """
    UPDATE windlass_live SET node = NULL, started_at = NULL, available_at = ?,
           attempts = attempts - ?, crashes = crashes + ?,
           history = COALESCE(?, history)
     WHERE id = ? AND claim = ? AND node = ? RETURNING id
"""


class SQLite(Dialect):
    """The engine's operations in SQLite's own words."""

    single_writer = True

    def __init__(self, database: str, *, owned: bool = False) -> None:
        super().__init__(database, owned=owned)
        self._raw: Any = None
        self._version: int | None = None

    # Enqueue

    def insert_many(
        self, jobs: Sequence[NewJob], *, notify: bool = True
    ) -> list[datetime]:
        """Store jobs, all or none; their times rise by a microsecond, in order."""
        now = timezone.now()
        times = [now + STEP * place for place in range(len(jobs))]
        rows = [self._row(job, time) for job, time in zip(jobs, times, strict=True)]
        with self.connection.cursor() as cursor:
            if len(rows) == 1:
                cursor.execute(INSERT, rows[0])
            else:
                with super().transaction():
                    cursor.executemany(INSERT, rows)
        return times

    def _row(self, job: NewJob, now: datetime) -> tuple[Any, ...]:
        text = self._text(now)
        due = text
        if job.run_after is not None:
            due = max(text, self._text(job.run_after))
        return (
            *(job.id.replace("-", ""), *job[1:8]),
            *(job.metadata, job.policy, text, due),
        )

    # Claim

    def claim(
        self, node: int, backend_alias: str, lanes: Sequence[Lane], limit: int
    ) -> list[Claimed]:
        """Hold up to ``limit`` ready jobs for a node, lane by lane, oldest first."""
        now = self._text(timezone.now())
        taken: list[Claimed] = []
        with self._writing() as run:
            for lane in lanes:
                where = (backend_alias, lane.queue_name, lane.nice, now)
                rows = run(CLAIM, (node, now, *where, limit - len(taken))).fetchall()
                jobs = [self._from_row(row) for row in rows]
                taken += sorted(jobs, key=lambda job: job.available_at)
                if len(taken) >= limit:
                    break
        return taken

    def _from_row(self, row: Sequence[Any]) -> Claimed:
        job = Claimed._make(row)
        return job._replace(
            id=_dashed(job.id),
            enqueued_at=self._time(job.enqueued_at),
            available_at=self._time(job.available_at),
        )

    # The end of a claim

    def finish(self, node: int, ends: Sequence[Ended]) -> set[str]:
        """Move held jobs to the ended table; give back the ids whose claim held."""
        with self._writing() as run:
            moved = {end.id for end in ends if self._finish_one(run, node, end)}
        if len(moved) < len(ends):
            moved |= self._recorded(node, [e for e in ends if e.id not in moved])
        return moved

    def _finish_one(self, run: Any, node: int, end: Ended) -> bool:
        fence = (end.id.replace("-", ""), end.claim, node)
        cursor = run(
            FINISH,
            (
                *(end.attempt_back, end.crashed, end.state, end.reason),
                self._text(self.moment(end.started_at)),
                self._text(self.moment(end.finished_at)),
                *(end.return_value, end.history, *fence),
            ),
        )
        return cursor.rowcount == 1 and run(DELETE, fence).rowcount == 1

    def put_back(self, node: int, returns: Sequence[Returned]) -> set[str]:
        """Return held jobs to waiting; give back the ids whose claim held."""
        now = timezone.now().timestamp()
        moved = set()
        with self._writing() as run:
            for back in returns:
                due = self._text(self.moment(now + back.delay))
                fence = (back.id.replace("-", ""), back.claim, node)
                change = (due, back.attempt_back, back.crashed, back.history)
                if run(PUT_BACK, (*change, *fence)).fetchall():
                    moved.add(back.id)
        return moved

    # How statements run

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Group several operations of an owned connection into one commit."""
        if not self.owned:
            with super().transaction():
                yield
            return
        raw = self._own()
        with self.connection.wrap_database_errors:
            raw.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                raw.execute("ROLLBACK")
                raise
            raw.execute("COMMIT")

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        """Give a function that runs SQL with ``?`` marks inside one transaction."""
        self.connection.ensure_connection()
        raw = self._own() if self.owned else self.connection.connection
        if raw.in_transaction:
            with self.connection.wrap_database_errors:
                yield raw.execute
        else:
            with self.transaction(), self.connection.wrap_database_errors:
                yield raw.execute

    def _own(self) -> sqlite3.Connection:
        self.connection.ensure_connection()
        raw = self.connection.connection
        if raw is not self._raw:
            for pragma in (
                *("busy_timeout = 20000", "journal_mode = WAL"),
                *("synchronous = FULL",),
            ):
                raw.execute(f"PRAGMA {pragma}")
            self._raw, self._version = raw, None
        return raw

    # Wake-ups

    def changed(self) -> bool:
        """Whether another connection has changed the file since the last call."""
        (version,) = self._own().execute("PRAGMA data_version").fetchone()
        before, self._version = self._version, version
        return before != version

    # Times are text in the connection's zone (UTC unless set), as Django's own are

    def _text(self, moment: datetime) -> str:
        zone = self.connection.timezone
        if zone is not None and moment.tzinfo is not None:
            moment = moment.astimezone(zone).replace(tzinfo=None)
        return moment.isoformat(" ")

    def _time(self, moment: Any) -> datetime:
        # Django's connections parse by the declared type; others give text.
        if isinstance(moment, str):
            moment = datetime.fromisoformat(moment)
        zone = self.connection.timezone
        return moment if zone is None else moment.replace(tzinfo=zone)


def _dashed(hex: str) -> str:
    return f"{hex[:8]}-{hex[8:12]}-{hex[12:16]}-{hex[16:20]}-{hex[20:]}"
