"""
Operations on many jobs: by their ids, or all in a state, of a queue or of a task.

They work in batches, each a transaction of its own, so that however many there are
nobody waits long for a lock. What is no longer in the state meant is left alone and
not counted. Of all that are in a state, those that came after the call are not meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from windlass import conf, db
from windlass.db import Dialect
from windlass.jobs import announcing, lifecycle
from windlass.models import EndedJob, LiveJob, State
from windlass.models.jobs import LiveJobQuerySet
from windlass.models.view import parse_id
from windlass.tasks_api import DEFAULT_TASK_BACKEND_ALIAS as DEFAULT
from windlass.twins import twin

BATCH = 500
Move = Callable[[Dialect, Sequence[str]], set[str]]


def retry_failed_jobs(
    ids: Iterable[object] | None = None,
    *,
    queue_name: str | None = None,
    task_path: str | None = None,
    batch_size: int = BATCH,
    backend_alias: str = DEFAULT,
) -> int:
    """
    Let failed jobs live again as ``retry_failed_job`` does; give back how many.

    Without ids: all that have failed, of one queue or one task if it is named.
    """
    selection = _Selection(backend_alias, ids, queue_name, task_path, batch_size)
    return selection.move(selection.failed, lifecycle.retry)


def discard_failed_jobs(
    ids: Iterable[object] | None = None,
    *,
    queue_name: str | None = None,
    task_path: str | None = None,
    batch_size: int = BATCH,
    backend_alias: str = DEFAULT,
) -> int:
    """Turn failed jobs into discarded ones; otherwise as ``retry_failed_jobs``."""
    selection = _Selection(backend_alias, ids, queue_name, task_path, batch_size)
    return selection.move(selection.failed, lifecycle.discard)


def discard_ready_jobs(
    ids: Iterable[object] | None = None,
    *,
    queue_name: str | None = None,
    task_path: str | None = None,
    batch_size: int = BATCH,
    backend_alias: str = DEFAULT,
) -> int:
    """Throw away jobs that are ready; otherwise as ``retry_failed_jobs``."""
    selection = _Selection(backend_alias, ids, queue_name, task_path, batch_size)
    return selection.move(selection.ready, selection.throw_away)


def discard_scheduled_jobs(
    ids: Iterable[object] | None = None,
    *,
    queue_name: str | None = None,
    task_path: str | None = None,
    batch_size: int = BATCH,
    backend_alias: str = DEFAULT,
) -> int:
    """Throw away jobs that wait for a time; otherwise as ``retry_failed_jobs``."""
    selection = _Selection(backend_alias, ids, queue_name, task_path, batch_size)
    return selection.move(selection.scheduled, selection.throw_away)


def discard_blocked_jobs(
    ids: Iterable[object] | None = None,
    *,
    queue_name: str | None = None,
    task_path: str | None = None,
    batch_size: int = BATCH,
    backend_alias: str = DEFAULT,
) -> int:
    """Throw away jobs that wait for a limit; otherwise as ``retry_failed_jobs``."""
    selection = _Selection(backend_alias, ids, queue_name, task_path, batch_size)
    return selection.move(selection.blocked, selection.throw_away)


aretry_failed_jobs = twin(retry_failed_jobs)
adiscard_failed_jobs = twin(discard_failed_jobs)
adiscard_ready_jobs = twin(discard_ready_jobs)
adiscard_scheduled_jobs = twin(discard_scheduled_jobs)
adiscard_blocked_jobs = twin(discard_blocked_jobs)


class _Selection:
    """Which jobs a call means, found a batch at a time."""

    def __init__(
        self,
        backend_alias: str,
        ids: Iterable[object] | None,
        queue_name: str | None,
        task_path: str | None,
        batch_size: int,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size!r}.")
        self.backend_alias, self.batch_size = backend_alias, batch_size
        self.db = db.dialect(conf.options(backend_alias).database_alias)
        self.ids = ids
        named = {"queue_name": queue_name, "task_path": task_path}
        self.named = {name: value for name, value in named.items() if value is not None}
        self.now = self.db.now()

    def failed(self) -> QuerySet[Any]:
        """Jobs that have failed by now, the oldest end first."""
        rows = EndedJob.objects.using(self.db.database).in_state(State.FAILED)
        return rows.filter(finished_at__lte=self.now).order_by("finished_at")

    def ready(self) -> QuerySet[Any]:
        """Jobs that are ready."""
        return self._live().ready(now=self.now)

    def scheduled(self) -> QuerySet[Any]:
        """Jobs that wait for a time."""
        return self._live().scheduled(now=self.now)

    def blocked(self) -> QuerySet[Any]:
        """Jobs that wait for something else than a time."""
        return self._live().blocked()

    def _live(self) -> LiveJobQuerySet:
        rows = LiveJob.objects.using(self.db.database).order_by("id")
        return rows.filter(enqueued_at__lte=self.now)

    def move(self, find: Callable[[], QuerySet[Any]], move: Move) -> int:
        """Move what is found, a batch at a time; give back how many moved."""
        rows = find().filter(backend_alias=self.backend_alias, **self.named)
        moved = 0
        for ids in self._batches(rows):
            with transaction.atomic(using=self.db.database):
                # Locked, so that what is moved is what was found.
                locked = rows.filter(id__in=ids).select_for_update()
                found = [str(id) for id in locked.values_list("id", flat=True)]
                moved += len(move(self.db, found)) if found else 0
        return moved

    def _batches(self, rows: QuerySet[Any]) -> Iterator[list[Any]]:
        if self.ids is not None:
            parsed = filter(None, map(parse_id, self.ids))
            while batch := list(islice(parsed, self.batch_size)):
                yield batch
            return
        # What was moved is found no more, so each batch is the first of what is left.
        before: list[Any] = []
        while batch := list(rows.values_list("id", flat=True)[: self.batch_size]):
            if batch == before:
                return
            yield batch
            before = batch

    def throw_away(self, dialect: Dialect, ids: Sequence[str]) -> set[str]:
        """Discard waiting jobs; it is announced at the commit."""
        moved = lifecycle.discard(dialect, ids)
        tell = partial(announcing.discarded, dialect, self.backend_alias, moved)
        transaction.on_commit(tell, using=dialect.database)
        return moved
