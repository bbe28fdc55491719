"""
MariaDB and MySQL: lock lane by lane, write by key, commit.

Neither can skip locked rows inside UPDATE, so the claim locks first and writes
second, in one short transaction. Both run these statements at READ COMMITTED,
Django's default, without which a locking read would lock the gaps between rows.
The end of a batch reads its input as a JSON table and names the rows by key.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import wraps
from typing import Any, TypeVar, cast

from django.conf import settings
from django.db import OperationalError, transaction
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
LOCK = f"""
    SELECT {", ".join(CLAIMED_COLUMNS)} FROM windlass_live
     FORCE INDEX (windlass_live_claim)
     WHERE backend_alias = %s AND queue_name = %s AND nice = %s AND share = %s
       AND available_at <= {{now}} AND node IS NULL
       AND NOT EXISTS (SELECT 1 FROM windlass_queue queue
         WHERE queue.backend_alias = %s AND name = %s AND paused_at IS NOT NULL)
     ORDER BY available_at LIMIT %s FOR UPDATE SKIP LOCKED
"""
# A small table's plan would be to read all of it, locking what others work on.
HOLD = """
    UPDATE windlass_live FORCE INDEX (PRIMARY) SET node = %s, started_at = {now},
           attempts = attempts + 1, claim = claim + 1 WHERE id IN ({ids})
"""
FENCED = """
    SELECT id, claim FROM windlass_live FORCE INDEX (PRIMARY)
     WHERE id IN ({ids}) AND node = %s FOR UPDATE
"""
# The rows are locked and their claims compared before, so the key alone says which.
FINISH = f"""
    INSERT INTO windlass_ended ({", ".join(KEPT_COLUMNS)}, attempts, crashes, state,
           reason, started_at, finished_at, return_value, history)
    SELECT {KEPT_OF_LIVE},
           live.attempts - input.attempt_back, live.crashes + input.crashed,
           input.state, input.reason, input.started_at, input.finished_at,
           input.return_value, COALESCE(input.history, live.history)
      FROM JSON_TABLE(%s, '$[*]' COLUMNS (
        id CHAR(36) PATH '$[0]',
        state VARCHAR(16) PATH '$[1]', reason VARCHAR(16) PATH '$[2]',
        started_at DATETIME(6) PATH '$[3]', finished_at DATETIME(6) PATH '$[4]',
        return_value LONGTEXT PATH '$[5]', history LONGTEXT PATH '$[6]',
        attempt_back INT PATH '$[7]', crashed INT PATH '$[8]',
        workspace LONGTEXT PATH '$[9]')) input
      STRAIGHT_JOIN windlass_live live ON live.id = input.id
"""
DELETE = """
    DELETE live FROM windlass_live live FORCE INDEX (PRIMARY) WHERE live.id IN ({ids})
"""
PUT_BACK = """
    UPDATE windlass_live SET node = NULL, started_at = NULL,
           available_at = {now} + INTERVAL %s MICROSECOND,
           attempts = attempts - %s, crashes = crashes + %s,
           history = COALESCE(%s, history), workspace = COALESCE(%s, workspace)
     WHERE id = %s AND claim = %s AND node = %s
"""


DEADLOCK = 1213
TRIES = 10
F = TypeVar("F", bound=Callable[..., Any])


def _again(operation: F) -> F:
    # InnoDB ends a deadlock by undoing one transaction, which is then to be repeated.
    @wraps(operation)
    def repeat(self: MySQL, *args: Any) -> Any:
        for _try in range(TRIES):
            try:
                return operation(self, *args)
            except OperationalError as error:
                if error.args[0] != DEADLOCK or self.connection.in_atomic_block:
                    raise
        return operation(self, *args)

    return cast(F, repeat)


class MySQL(Dialect):
    """The engine's operations in the words of MariaDB and MySQL."""

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
                with transaction.atomic(using=self.database):
                    cursor.executemany(INSERT, rows)
        return times

    def _row(self, job: NewJob, now: datetime) -> tuple[Any, ...]:
        due = now if job.run_after is None else max(now, job.run_after)
        values = (self.key(job.id), *job[1:8], *job[9:12])
        return (*values, self._text(now), self._text(due))

    # Claim

    @_again
    def claim(
        self, node: int, backend_alias: str, lanes: Sequence[Lane], limit: int
    ) -> list[Claimed]:
        """Hold up to ``limit`` ready jobs for a node, lane by lane, oldest first."""
        rows: list[Sequence[Any]] = []
        with self._writing() as cursor:
            for lane in lanes:
                queue = (backend_alias, lane.queue_name)
                most = min(lane.most or limit, limit - len(rows))
                values = (*queue, lane.nice, lane.share, *queue, most)
                cursor.execute(LOCK.format(now=self._now_sql), values)
                rows += cursor.fetchall()
                if len(rows) >= limit:
                    break
            if rows:
                ids = [row[0] for row in rows]
                sql = HOLD.format(now=self._now_sql, ids=_marks(ids))
                cursor.execute(sql, (node, *ids))
        return [self._from_row(row) for row in rows]

    def _from_row(self, row: Sequence[Any]) -> Claimed:
        job = Claimed._make(row)
        zone = self.connection.timezone
        return job._replace(
            id=str(uuid.UUID(str(job.id))),
            claim=job.claim + 1,
            attempts=job.attempts + 1,
            enqueued_at=job.enqueued_at.replace(tzinfo=zone),
            available_at=job.available_at.replace(tzinfo=zone),
        )

    # The end of a claim

    @_again
    def finish(self, node: int, ends: Sequence[Ended]) -> set[str]:
        """Move held jobs to the ended table; give back the ids whose claim held."""
        with self._writing() as cursor:
            held = self._fenced(cursor, node, ends)
            if held:
                cursor.execute(FINISH, [json.dumps([self._end(end) for end in held])])
                keys = [self.key(end.id) for end in held]
                cursor.execute(DELETE.format(ids=_marks(keys)), keys)
        moved = {end.id for end in held}
        if len(moved) < len(ends):
            moved |= self._recorded(node, [e for e in ends if e.id not in moved])
        return moved

    def _fenced(self, cursor: Any, node: int, ends: Sequence[Ended]) -> list[Ended]:
        if not ends:
            return []
        keys = [self.key(end.id) for end in ends]
        cursor.execute(FENCED.format(ids=_marks(keys)), (*keys, node))
        claims = {(str(uuid.UUID(str(key))), claim) for key, claim in cursor.fetchall()}
        return [end for end in ends if (end.id, end.claim) in claims]

    def _end(self, end: Ended) -> list[Any]:
        return [
            *(self.key(end.id), end.state, end.reason),
            None if end.started_at is None else self._text(self.moment(end.started_at)),
            self._text(self.moment(end.finished_at)),
            *(end.return_value, end.history, end.attempt_back, end.crashed),
            end.workspace,
        ]

    @_again
    def put_back(self, node: int, returns: Sequence[Returned]) -> set[str]:
        """Return held jobs to waiting; give back the ids whose claim held."""
        moved = set()
        sql = PUT_BACK.format(now=self._now_sql)
        with self._writing() as cursor:
            for back in returns:
                change = (back.attempt_back, back.crashed, back.history, back.workspace)
                fence = (self.key(back.id), back.claim, node)
                cursor.execute(sql, (round(back.delay * 1e6), *change, *fence))
                if cursor.rowcount:
                    moved.add(back.id)
        return moved

    # How statements run

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        with (
            transaction.atomic(using=self.database),
            self.connection.cursor() as cursor,
        ):
            yield cursor

    def is_conflict(self, error: BaseException) -> bool:
        """Whether this is a deadlock or a lock that took too long."""
        return bool(error.args) and error.args[0] in {1205, 1213}

    def now(self) -> datetime:
        """The moment by the server's clock, which decides when jobs are due."""
        with self.connection.cursor() as cursor:
            cursor.execute(f"SELECT {self._now_sql}")
            now: datetime = cursor.fetchone()[0]
        return now.replace(tzinfo=self.connection.timezone)

    @property
    def _now_sql(self) -> str:
        # The session's own zone is the server's, which a project need not share.
        if settings.USE_TZ:
            return "UTC_TIMESTAMP(6)"
        offset = datetime.now(timezone.get_default_timezone()).utcoffset()
        seconds = int(offset.total_seconds()) if offset else 0
        return f"(UTC_TIMESTAMP(6) + INTERVAL {seconds} SECOND)"

    def _text(self, moment: datetime) -> str:
        return str(self.connection.ops.adapt_datetimefield_value(moment))


def _marks(values: Sequence[Any]) -> str:
    return ", ".join(["%s"] * len(values))
