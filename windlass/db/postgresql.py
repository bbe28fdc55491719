"""
PostgreSQL: which statement, on which connection, with what around it.

A user's connection is used as it is found. The runtime's own are tuned, bind on the
server and keep their plans. Who waits for jobs is woken by NOTIFY, sent with the
insert itself and so at the caller's commit.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from operator import attrgetter
from typing import Any
from weakref import WeakKeyDictionary

from django.db.backends.base.base import BaseDatabaseWrapper

from windlass.db.base import STEP, Dialect, Times
from windlass.db.postgresql_sessions import Straight, is_direct, own_cursor
from windlass.db.postgresql_statements import (
    ADVANCE,
    CLAIM,
    COPY,
    FINISH,
    INSERT,
    INSERT_AND_NOTIFY,
    INSERT_MANY,
    LANES,
    PUT_BACK,
    copy_line,
)
from windlass.db.records import (
    Advanced,
    Claimed,
    Ended,
    Lane,
    NewJob,
    Returned,
    channel,
)
from windlass.models.jobs import LiveJob

# Above this many jobs, COPY beats an INSERT from JSON.
COPY_FROM = 200
COPY_CHUNK = 1000
# One NOTIFY for each queue in this time: at commit each takes a lock of the whole
# cluster. Workers poll for five times as long after they saw one.
NOTIFY_EVERY = 0.01

_by_available_at = attrgetter("available_at")


class PostgreSQL(Dialect):
    """The engine's operations in PostgreSQL's own words."""

    # When this process last notified each queue: outside of transactions, shared by
    # all threads, and inside each outermost atomic block.
    _notified: dict[tuple[str, str, str], float] = {}
    _in_block: WeakKeyDictionary[Any, dict[tuple[str, str, str], float]] = (
        WeakKeyDictionary()
    )

    def __init__(self, database: str, *, owned: bool = False) -> None:
        super().__init__(database, owned=owned)
        self._raw: Any = None
        self._cursor: Any = None

    @property
    def notifies(self) -> bool:  # type: ignore[override]
        """Whether the driver can wait for notifications (psycopg 3)."""
        return _psycopg3()

    # Enqueue

    def insert(self, job: NewJob, *, notify: bool = True) -> datetime:
        """Store one job with one statement; give back when it was enqueued."""
        values: tuple[Any, ...] = (*job[:8], *job[9:12], job.run_after)
        channel = notify and self._channel_to_notify(job)
        if channel:
            sql, values = INSERT_AND_NOTIFY, (*values, channel, job.queue_name)
        else:
            sql = INSERT
        connection = self.connection
        if connection.queries_logged or connection.execute_wrappers or not _psycopg3():
            with connection.cursor() as cursor:
                cursor.execute(sql, values)
                enqueued_at: datetime = cursor.fetchone()[0]
        else:
            enqueued_at = self._straight(connection, sql, values)
        return enqueued_at

    def _straight(
        self, connection: BaseDatabaseWrapper, sql: str, values: Sequence[Any]
    ) -> Any:
        # Nobody watches this connection's queries, so the driver is asked without
        # Django's cursor, which costs a third of the statement. Its checks stay.
        connection.ensure_connection()
        connection.validate_thread_sharing()
        connection.validate_no_broken_transaction()
        raw = connection.connection
        with connection.wrap_database_errors:
            own = raw.__dict__.get("_windlass")
            if own is None:
                own = raw._windlass = Straight(raw)
            return own.fetch(sql, values)

    def insert_many(self, jobs: Sequence[NewJob], *, notify: bool = True) -> Times:
        """Store jobs, all or none; their times rise by a microsecond, in order."""
        with self.storing(jobs, notify=notify) as times:
            return times

    @contextmanager
    def storing(self, jobs: Sequence[NewJob], *, notify: bool) -> Iterator[Times]:
        """Store jobs, and let their times be used while the server is not done yet."""
        if len(jobs) >= COPY_FROM and _psycopg3():
            with self._copying(jobs) as times:
                yield times
        else:
            rows = [(*job[:8], *job[9:12], job.run_after) for job in jobs]
            now = self._all(INSERT_MANY, [json.dumps(rows, default=str)])[0][0]
            yield [now + STEP * place for place in range(1, len(jobs) + 1)]
        if notify:
            self.notify(jobs)

    @contextmanager
    def _copying(self, jobs: Sequence[NewJob]) -> Iterator[Times]:
        now = self.now()
        times = [now + STEP * place for place in range(len(jobs))]
        with self.connection.cursor() as cursor, self.connection.wrap_database_errors:
            with cursor.copy(COPY) as copy:
                for start in range(0, len(jobs), COPY_CHUNK):
                    end = start + COPY_CHUNK
                    lines = map(copy_line, jobs[start:end], times[start:end])
                    copy.write("".join(lines))
                yield times

    def _channel_to_notify(self, job: NewJob | LiveJob) -> str | None:
        # A notification inside a transaction is sent at its commit, which may be far
        # away, so each transaction counts for itself.
        now = time.monotonic()
        blocks = self.connection.atomic_blocks
        times = self._in_block.setdefault(blocks[0], {}) if blocks else self._notified
        key = (self.database, job.backend_alias, job.queue_name)
        if now - times.get(key, 0) < NOTIFY_EVERY:
            return None
        if len(times) > 1000:
            times.clear()
        times[key] = now
        return channel(job.backend_alias)

    def notify(self, jobs: Sequence[NewJob | LiveJob]) -> None:
        """Wake who waits for jobs like these, at the caller's commit."""
        queues = {f"{job.backend_alias}\0{job.queue_name}": job for job in jobs}
        for job in queues.values():
            name = self._channel_to_notify(job)
            if name:
                self.tell(name, job.queue_name)

    # Claim

    def lanes(self, backend_alias: str) -> list[tuple[str, int]]:
        """Each (queue, negated priority) that has rows, for one seek each."""
        lanes: list[tuple[str, int]] = self._all(LANES, (backend_alias, backend_alias))
        return lanes

    def claim(
        self, node: int, backend_alias: str, lanes: Sequence[Lane], limit: int
    ) -> list[Claimed]:
        """Hold up to ``limit`` ready jobs for a node, lane by lane, oldest first."""
        queues = [lane.queue_name for lane in lanes]
        nices = [lane.nice for lane in lanes]
        # As text, because the driver takes no list of times and words.
        floors = [str(lane.floor or "-infinity") for lane in lanes]
        shares = [lane.share for lane in lanes]
        most = [lane.most or limit for lane in lanes]
        what = (queues, nices, floors, shares, most)
        rows = self._all(CLAIM, (*what, backend_alias, backend_alias, limit, node))
        jobs = list(map(Claimed._make, rows))
        if len(lanes) > 1:
            place = {(lane.queue_name, lane.nice): n for n, lane in enumerate(lanes)}
            jobs.sort(key=lambda j: (place[j.queue_name, j.nice], j.available_at))
        else:
            jobs.sort(key=_by_available_at)
        return jobs

    # The end of a claim

    def finish(self, node: int, ends: Sequence[Ended]) -> set[str]:
        """Move held jobs to the ended table; give back the ids whose claim held."""
        moved = self._count(FINISH, (json.dumps(ends), node))
        if moved == len(ends):
            return {end.id for end in ends}
        return self._recorded(node, ends)

    def put_back(self, node: int, returns: Sequence[Returned]) -> set[str]:
        """Return held jobs to waiting; give back the ids whose claim held."""
        rows = self._all(PUT_BACK, (json.dumps(returns), node))
        return {id for (id,) in rows}

    def advance(self, node: int, steps: Sequence[Advanced]) -> set[str]:
        """Return held jobs to waiting, at their next step; give back whose held."""
        rows = self._all(ADVANCE, (json.dumps(steps), node))
        return {id for (id,) in rows}

    # How statements run

    def _all(self, sql: str, values: Sequence[Any]) -> Any:
        if self.owned and _psycopg3():
            with self.connection.wrap_database_errors:
                return self._own().execute(sql, values, prepare=True).fetchall()
        with self.connection.cursor() as cursor:
            cursor.execute(sql, values)
            return cursor.fetchall()

    def _count(self, sql: str, values: Sequence[Any]) -> Any:
        if self.owned and _psycopg3():
            with self.connection.wrap_database_errors:
                return self._own().execute(sql, values, prepare=True).rowcount
        with self.connection.cursor() as cursor:
            cursor.execute(sql, values)
            return cursor.rowcount

    def _own(self) -> Any:
        """A tuned cursor that binds on the server, past Django's wrappers."""
        self.connection.ensure_connection()
        raw = self.connection.connection
        if raw is not self._raw:
            self._raw, self._cursor = raw, own_cursor(raw)
        return self._cursor

    def is_conflict(self, error: BaseException) -> bool:
        """Whether this is a deadlock or a serialization failure."""
        return getattr(error.__cause__, "sqlstate", None) in {"40001", "40P01"}

    # Wake-ups

    def keeps_sessions(self) -> bool:
        """Whether LISTEN lasts: not behind a transaction pooler."""
        self.connection.ensure_connection()
        with self.connection.wrap_database_errors:
            return not _psycopg3() or is_direct(self.connection.connection)

    def listen(self, channel: str) -> None:
        """Subscribe the calling thread's connection to a channel."""
        with self.connection.cursor() as cursor:
            cursor.execute(f'LISTEN "{channel}"')

    def tell(self, channel: str, note: str) -> None:
        """Tell who listens to a channel, at the caller's commit."""
        self._all("SELECT pg_notify(%s, %s)", (channel, note))

    def wait_for_notification(self, timeout: float) -> list[str]:
        """Wait for notes on the channels listened to; give back what they say."""
        raw = self.connection.connection
        with self.connection.wrap_database_errors:
            notes = raw.notifies(timeout=timeout, stop_after=1)
            return [note.payload for note in notes]

    def now(self) -> datetime:
        """The moment by the server's clock, which decides when jobs are due."""
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT statement_timestamp()")
            now: datetime = cursor.fetchone()[0]
        return now


@cache
def _psycopg3() -> bool:
    from django.db.backends.postgresql.psycopg_any import is_psycopg3

    return is_psycopg3
