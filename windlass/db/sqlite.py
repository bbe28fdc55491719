"""
SQLite: one writer at a time, so as few and as short write transactions as possible.

Each process of the runtime writes from one thread, and puts the end of its last
batch and its next claim into one ``BEGIN IMMEDIATE``. Whether there may be work is
asked with ``PRAGMA data_version``, which reads no table.

The driver lets go of Python's lock at each row that a statement takes or gives, and
a busy neighbour may keep it for milliseconds. So what comes in batches goes in and
out as one JSON value.

The runtime turns its database file to WAL, once, because readers then never wait
for it; the mode is a property of the file. Commits are durable (``synchronous =
FULL``); grouping makes that nearly as fast as not.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, tzinfo
from functools import lru_cache
from operator import attrgetter
from typing import Any

from django.utils import timezone

from windlass.db.base import STEP, Dialect, Times
from windlass.db.records import (
    CLAIMED_COLUMNS,
    KEPT_COLUMNS,
    KEPT_OF_LIVE,
    Claimed,
    Ended,
    Lane,
    NewJob,
    Returned,
)

NEW_COLUMNS = (
    "id, backend_alias, queue_name, nice, task_path, args, kwargs, max_attempts,"
    " metadata, policy, share, enqueued_at, available_at"
)
INSERT = f"""INSERT INTO windlass_live ({NEW_COLUMNS})
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"""
# Changes nothing, and makes this the one writer: what is read next stays so.
LOCK = "DELETE FROM windlass_live WHERE 0"
# The rows as they will be after HOLD.
PICK = f"""
    SELECT json_group_array(json_array(rowid, {", ".join(CLAIMED_COLUMNS)})) FROM (
      SELECT rowid, {
    ", ".join(CLAIMED_COLUMNS)
    .replace("claim", "claim + 1 AS claim", 1)
    .replace("attempts", "attempts + 1 AS attempts", 1)
}
        FROM windlass_live INDEXED BY windlass_live_claim
       WHERE backend_alias = ? AND queue_name = ? AND nice = ? AND share = ?
         AND available_at <= ? AND node IS NULL
         AND NOT EXISTS (SELECT 1 FROM windlass_queue queue
           WHERE queue.backend_alias = ? AND name = ? AND paused_at IS NOT NULL)
       ORDER BY available_at LIMIT ?)
"""
HOLD = """
    UPDATE windlass_live SET node = ?, started_at = ?, attempts = attempts + 1,
           claim = claim + 1
     WHERE rowid IN (SELECT value FROM json_each(?))
"""
_KEPT = ", ".join(KEPT_COLUMNS)
# The place of each value among those of an end, as _end() lists them.
(
    *(ID, CLAIM, STATE, REASON, STARTED, FINISHED, VALUE, HISTORY, BACK, CRASHED),
    WORKSPACE,
) = (f"json_extract(value, '$[{place}]')" for place in range(11))
FINISH = f"""
    INSERT INTO windlass_ended ({_KEPT}, attempts, crashes, state, reason,
           started_at, finished_at, return_value, history)
    SELECT {KEPT_OF_LIVE.replace("input.workspace", WORKSPACE)},
           attempts - {BACK}, crashes + {CRASHED}, {STATE}, {REASON},
           {STARTED}, {FINISHED}, {VALUE}, COALESCE({HISTORY}, history)
      FROM json_each(?) CROSS JOIN windlass_live live ON live.id = {ID}
     WHERE claim = {CLAIM} AND node = ?
"""
DELETE = f"""
    DELETE FROM windlass_live WHERE node = ?
       AND (id, claim) IN (SELECT {ID}, {CLAIM} FROM json_each(?))
"""
# In what PICK gives back, after the row's number.
ENQUEUED_AT = 1 + CLAIMED_COLUMNS.index("enqueued_at")
AVAILABLE_AT = 1 + CLAIMED_COLUMNS.index("available_at")
_by_available_at = attrgetter("available_at")
PUT_BACK = """
    UPDATE windlass_live SET node = NULL, started_at = NULL, available_at = ?,
           attempts = attempts - ?, crashes = crashes + ?,
           history = COALESCE(?, history), workspace = COALESCE(?, workspace)
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

    def insert_many(self, jobs: Sequence[NewJob], *, notify: bool = True) -> Times:
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
            *(job.metadata, job.policy, job.share, text, due),
        )

    # Claim

    def claim(
        self, node: int, backend_alias: str, lanes: Sequence[Lane], limit: int
    ) -> list[Claimed]:
        """Hold up to ``limit`` ready jobs for a node, lane by lane, oldest first."""
        now = self._text(timezone.now())
        zone = self.connection.timezone
        taken: list[Claimed] = []
        with self._writing() as raw:
            raw.execute(LOCK)
            for lane in lanes:
                queue = (backend_alias, lane.queue_name)
                most = min(lane.most or limit, limit - len(taken))
                values = (*queue, lane.nice, lane.share, now, *queue, most)
                (text,) = raw.execute(PICK, values).fetchone()
                rows = json.loads(text)
                if rows:
                    numbers = json.dumps([row[0] for row in rows])
                    raw.execute(HOLD, (node, now, numbers))
                    jobs = [_held(row, zone) for row in rows]
                    taken += sorted(jobs, key=_by_available_at)
                if len(taken) >= limit:
                    break
        return taken

    # The end of a claim

    def finish(self, node: int, ends: Sequence[Ended]) -> set[str]:
        """Move held jobs to the ended table; give back the ids whose claim held."""
        zone = self.connection.timezone
        text = json.dumps([_end(end, zone) for end in ends])
        with self._writing() as raw:
            moved = raw.execute(FINISH, (text, node)).rowcount
            raw.execute(DELETE, (node, text))
        if moved == len(ends):
            return {end.id for end in ends}
        return self._recorded(node, ends)

    def put_back(self, node: int, returns: Sequence[Returned]) -> set[str]:
        """Return held jobs to waiting; give back the ids whose claim held."""
        now, zone = time.time(), self.connection.timezone
        moved = set()
        with self._writing() as raw:
            for back in returns:
                due = _epoch_text(now + back.delay, zone)
                fence = (back.id.replace("-", ""), back.claim, node)
                change = (due, back.attempt_back, back.crashed, back.history)
                values = (*change, back.workspace, *fence)
                if raw.execute(PUT_BACK, values).fetchall():
                    moved.add(back.id)
        return moved

    # How statements run

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Group several operations of an owned connection into one commit."""
        if self.owned:
            self._own()
        with super().transaction():
            yield

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        """Give the driver's connection, inside one transaction."""
        self.connection.ensure_connection()
        raw = self._own() if self.owned else self.connection.connection
        if raw.in_transaction:
            with self.connection.wrap_database_errors:
                yield raw
        else:
            with self.transaction(), self.connection.wrap_database_errors:
                yield raw

    def _own(self) -> sqlite3.Connection:
        self.connection.ensure_connection()
        raw: sqlite3.Connection = self.connection.connection
        if raw is not self._raw:
            with self.connection.wrap_database_errors:
                raw.execute("PRAGMA busy_timeout = 20000")
                raw.execute("PRAGMA synchronous = FULL")
            # Changing the mode needs the file for itself; another time will do.
            with suppress(sqlite3.OperationalError):
                raw.execute("PRAGMA journal_mode = WAL")
                self._raw, self._version = raw, None
        return raw

    def is_conflict(self, error: BaseException) -> bool:
        """Whether another connection held the file for longer than we wait."""
        return "locked" in str(error)

    # Wake-ups

    def changed(self) -> bool:
        """Whether another connection has changed the file since the last call."""
        with self.connection.wrap_database_errors:
            (version,) = self._own().execute("PRAGMA data_version").fetchone()
        before, self._version = self._version, version
        return bool(before != version)

    # Times are text in the connection's zone (UTC unless set), as Django's own are

    def _text(self, moment: datetime) -> str:
        zone = self.connection.timezone
        if zone is not None and moment.tzinfo is not None:
            moment = moment.astimezone(zone).replace(tzinfo=None)
        return moment.isoformat(" ")


def _held(row: Sequence[Any], zone: tzinfo | None) -> Claimed:
    id = row[1]
    return Claimed(  # type: ignore[call-arg]  # it cannot count what a slice has
        f"{id[:8]}-{id[8:12]}-{id[12:16]}-{id[16:20]}-{id[20:]}",
        *row[2:ENQUEUED_AT],
        _time(row[ENQUEUED_AT], zone),
        _time(row[AVAILABLE_AT], zone),
        *row[AVAILABLE_AT + 1 :],
    )


def _time(text: Any, zone: tzinfo | None) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if zone is None else moment.replace(tzinfo=zone)


def _end(end: Ended, zone: tzinfo | None) -> tuple[Any, ...]:
    return (
        *(end.id.replace("-", ""), end.claim, end.state, end.reason),
        None if end.started_at is None else _epoch_text(end.started_at, zone),
        _epoch_text(end.finished_at, zone),
        *(end.return_value, end.history, end.attempt_back, end.crashed),
        end.workspace,
    )


def _epoch_text(seconds: float, zone: tzinfo | None) -> str:
    whole, part = divmod(round(seconds * 1_000_000), 1_000_000)
    return (
        f"{_second_text(whole, zone)}.{part:06d}"
        if part
        else (_second_text(whole, zone))
    )


@lru_cache(maxsize=64)
def _second_text(second: int, zone: tzinfo | None) -> str:
    # Without a zone (USE_TZ = False), Django has set the process to the project's.
    moment = datetime.fromtimestamp(second, zone)
    return moment.replace(tzinfo=None).isoformat(" ")
