"""
The portable dialect: every operation of the engine, said with the ORM.

Where a database can do better, its own module overrides the operation. A move locks
the rows it names, checks the fence (node and claim), and writes by id: right on any
database that has transactions, and slower than it could be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Exists, F
from django.utils import timezone

from windlass.db.records import Advanced, Claimed, Ended, Lane, NewJob, Returned
from windlass.db.rows import (
    advanced_columns,
    claimed,
    delete_live,
    ended_row,
    load,
    new_row,
)
from windlass.models.jobs import EndedJob, LiveJob
from windlass.models.queues import Queue

STEP = timedelta(microseconds=1)
Times = list[datetime]


class Dialect:
    """The engine's operations on one database, in portable form."""

    # Whether this database prefers one writing thread in each process.
    single_writer = False
    # Whether wait_for_notification() exists, beside polling.
    notifies = False

    def __init__(self, database: str, *, owned: bool = False) -> None:
        self.database = database
        self.owned = owned
        self._slots: Any = None

    @property
    def connection(self) -> BaseDatabaseWrapper:
        """The calling thread's Django connection."""
        return connections[self.database]

    def close(self) -> None:
        """Drop the calling thread's connection; the next use opens a new one."""
        self.connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Group several operations of an owned connection into one commit."""
        with transaction.atomic(using=self.database, savepoint=False):
            yield

    # Enqueue

    def insert(self, job: NewJob, *, notify: bool = True) -> datetime:
        """Store one job with one statement; give back when it was enqueued."""
        return self.insert_many([job], notify=notify)[0]

    def insert_many(self, jobs: Sequence[NewJob], *, notify: bool = True) -> Times:
        """Store jobs, all or none; their times rise by a microsecond, in order."""
        now = self.now()
        times = [now + STEP * place for place in range(len(jobs))]
        LiveJob.objects.using(self.database).bulk_create(
            [new_row(job, time) for job, time in zip(jobs, times, strict=True)],
            batch_size=1000,
        )
        return times

    @contextmanager
    def storing(self, jobs: Sequence[NewJob], *, notify: bool) -> Iterator[Times]:
        """Store jobs as ``insert_many`` does, around what is done with their times."""
        yield self.insert_many(jobs, notify=notify)

    def notify(self, jobs: Sequence[NewJob | LiveJob]) -> None:
        """Wake who waits for jobs like these, where there are notifications."""

    # Claim

    def lanes(self, backend_alias: str) -> list[tuple[str, int]]:
        """Each (queue, negated priority) that has rows, for one seek each."""
        jobs = LiveJob.objects.using(self.database).filter(backend_alias=backend_alias)
        rows = jobs.order_by("queue_name", "nice").values_list("queue_name", "nice")
        found: list[tuple[str, int]] = []
        lane = rows.first()
        while lane:
            found.append(lane)
            lane = rows.filter(queue_name=lane[0], nice__gt=lane[1]).first() or (
                rows.filter(queue_name__gt=lane[0]).first()
            )
        return found

    def claim(
        self, node: int, backend_alias: str, lanes: Sequence[Lane], limit: int
    ) -> list[Claimed]:
        """Hold up to ``limit`` ready jobs for a node, lane by lane, oldest first."""
        taken: list[Claimed] = []
        skips = self.connection.features.has_select_for_update_skip_locked
        with transaction.atomic(using=self.database):
            now = self.now()
            for lane in lanes:
                paused = Queue.objects.using(self.database).paused()
                rows = LiveJob.objects.using(self.database).filter(
                    ~Exists(
                        paused.filter(backend_alias=backend_alias, name=lane.queue_name)
                    ),
                    backend_alias=backend_alias,
                    queue_name=lane.queue_name,
                    nice=lane.nice,
                    share=lane.share,
                    node__isnull=True,
                    available_at__lte=now,
                )
                rows = rows.select_for_update(skip_locked=skips)
                rows = rows.order_by("available_at")
                rows = rows[: min(lane.most or limit, limit - len(taken))]
                taken += [claimed(row, claims=1) for row in rows]
                if len(taken) >= limit:
                    break
            LiveJob.objects.using(self.database).filter(
                id__in=[job.id for job in taken]
            ).update(
                node=node,
                started_at=now,
                attempts=F("attempts") + 1,
                claim=F("claim") + 1,
            )
        return taken

    # The end of a claim

    def finish(self, node: int, ends: Sequence[Ended]) -> set[str]:
        """Move held jobs to the ended table; give back the ids whose claim held."""
        by_id = {end.id: end for end in ends}
        with transaction.atomic(using=self.database):
            rows = self._held(node, ends)
            EndedJob.objects.using(self.database).bulk_create(
                [ended_row(row, by_id[str(row.id)], self.moment) for row in rows]
            )
            delete_live(self.database, [row.id for row in rows])
        moved = {str(row.id) for row in rows}
        return moved | self._recorded(node, [e for e in ends if e.id not in moved])

    def _recorded(self, node: int, ends: Sequence[Ended]) -> set[str]:
        # A commit whose answer was lost with its connection is told twice: a row that
        # ended under this very claim, so and then, is this end. A rescuer's differs.
        if not ends:
            return set()
        rows = EndedJob.objects.using(self.database).filter(node=node)
        rows = rows.filter(id__in=[end.id for end in ends])
        found = {
            str(id): (columns, finished_at)
            for id, finished_at, *columns in rows.values_list(
                "id", "finished_at", "claim", "state", "reason"
            )
        }
        return {end.id for end in ends if self._is_recorded(end, found.get(end.id))}

    def _is_recorded(self, end: Ended, row: tuple[list[Any], datetime] | None) -> bool:
        if row is None or row[0] != [end.claim, end.state, end.reason]:
            return False
        return abs(row[1] - self.moment(end.finished_at)) < timedelta(milliseconds=1)

    def put_back(self, node: int, returns: Sequence[Returned]) -> set[str]:
        """Return held jobs to waiting; give back the ids whose claim held."""
        by_id = {back.id: back for back in returns}
        with transaction.atomic(using=self.database):
            now = self.now()
            rows = self._held(node, returns)
            for row in rows:
                back = by_id[str(row.id)]
                row.node = row.started_at = None
                row.available_at = now + timedelta(seconds=back.delay)
                row.attempts -= back.attempt_back
                row.crashes += back.crashed
                row.history = load(back.history) or row.history
                if back.workspace is not None:
                    row.workspace = load(back.workspace)
            LiveJob.objects.using(self.database).bulk_update(
                rows,
                [
                    *("node", "started_at", "available_at"),
                    *("attempts", "crashes", "history", "workspace"),
                ],
            )
        return {str(row.id) for row in rows}

    def advance(self, node: int, steps: Sequence[Advanced]) -> set[str]:
        """Return held jobs to waiting, at their next step; give back whose held."""
        moved = set()
        with transaction.atomic(using=self.database):
            now = self.now()
            for step in steps:
                held = LiveJob.objects.using(self.database).filter(
                    id=step.id, claim=step.claim, node=node
                )
                if held.update(**advanced_columns(step, now)):
                    moved.add(step.id)
        return moved

    def _held(self, node: int, fenced: Sequence[Ended | Returned]) -> list[LiveJob]:
        claims = {(item.id, item.claim) for item in fenced}
        rows = LiveJob.objects.using(self.database).select_for_update()
        rows = rows.filter(id__in=[item.id for item in fenced], node=node)
        return [row for row in rows if (str(row.id), row.claim) in claims]

    def key(self, id: str) -> str:
        """A job's id as this database has it."""
        native = self.connection.features.has_native_uuid_field
        return id if native else id.replace("-", "")

    def is_conflict(self, error: BaseException) -> bool:
        """Whether an error means "someone was faster, try again", not "I am away"."""
        return False

    # Time

    def now(self) -> datetime:
        """The moment by the clock that decides when jobs are due."""
        return timezone.now()

    def moment(self, seconds: float) -> datetime:
        """A moment given in seconds since the epoch, as this project stores times."""
        aware = datetime.fromtimestamp(seconds, UTC)
        return aware if settings.USE_TZ else timezone.make_naive(aware)

    # Wake-ups, where the database has them

    def keeps_sessions(self) -> bool:
        """Whether a connection remembers what an earlier statement told it."""
        return True

    def listen(self, channel: str) -> None:
        """Subscribe the calling thread's connection to a channel."""

    def tell(self, channel: str, note: str) -> None:
        """Tell who listens to a channel, at the caller's commit."""

    def wait_for_notification(self, timeout: float) -> list[str]:
        """Wait for notes on the channels listened to; give back what they say."""
        return []

    def changed(self) -> bool:
        """Whether anything may have changed since the last call, if cheap to say."""
        return True
