"""
Jobs that wait for other jobs: stored blocked, and let go when their turn has come.

Whoever stored them with a hold is the only one who lets them go, under a lock of its
own; so the rows need no lock before the write. Each write names the hold, and a row
that somebody has cancelled meanwhile is simply not there any more.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from django.db import transaction

from windlass.db.base import STEP, Dialect
from windlass.db.due import postponed
from windlass.db.records import NewJob
from windlass.db.rows import new_row
from windlass.models.jobs import LiveJob

BATCH = 500
LET_GO = """
    UPDATE windlass_live SET args = %s, kwargs = %s, policy = %s, share = %s,
           available_at = %s, hold = '' WHERE id = %s AND hold = %s AND node IS NULL
"""
T = TypeVar("T")


class Change(NamedTuple):
    """What is new about a job that is let go; the rest stays as it was stored."""

    id: str
    due: datetime | None
    args: Any
    kwargs: Any
    policy: Any
    share: str


def store(db: Dialect, jobs: Sequence[NewJob], hold: str) -> datetime:
    """Store blocked jobs; give back the moment at which they were enqueued."""
    now = db.now()
    rows = [new_row(job, now + STEP * place) for place, job in enumerate(jobs)]
    for row in rows:
        row.hold, row.available_at = hold, postponed(row.available_at)
    LiveJob.objects.using(db.database).bulk_create(rows, batch_size=1000)
    return now


def let_go(
    db: Dialect, hold: str, ids: Sequence[str], changes: Sequence[Change]
) -> set[str]:
    """Make blocked jobs ready: ``ids`` as they are, and others with their changes."""
    live = LiveJob.objects.using(db.database)
    with transaction.atomic(using=db.database):
        now = db.now()
        blocked = live.waiting().filter(hold=hold)
        found: list[LiveJob] = []
        for batch in _batches([*ids, *(change.id for change in changes)]):
            named = blocked.filter(id__in=batch)
            found += named.only("id", "backend_alias", "queue_name", "nice")
        here = {str(row.id) for row in found}
        for batch in _batches([id for id in ids if id in here]):
            blocked.filter(id__in=batch).update(hold="", available_at=now)
        changed = [change for change in changes if change.id in here]
        if changed:
            with db.connection.cursor() as cursor:
                # By key, each for itself: no plan reads, and locks, other rows.
                cursor.executemany(LET_GO, [_row(db, c, hold, now) for c in changed])
        db.notify(found)
    return here


def _row(db: Dialect, change: Change, hold: str, now: datetime) -> tuple[Any, ...]:
    due = max(now, change.due) if change.due else now
    return (
        *(json.dumps(each) for each in (change.args, change.kwargs, change.policy)),
        change.share,
        db.connection.ops.adapt_datetimefield_value(due),
        db.key(change.id),
        hold,
    )


def _batches(items: Sequence[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, BATCH)):
        yield batch
