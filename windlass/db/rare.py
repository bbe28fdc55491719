"""
Moves of jobs that no node holds, and of jobs that have ended; rare questions too.

They happen when a person, a limit or a recovery says so, a batch at a time, so one
portable form serves every database: lock the rows, check their state, write by id,
in one transaction.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Count

from windlass.db.base import Dialect
from windlass.db.due import due, postponed, put_off
from windlass.db.memos import delete_ended
from windlass.db.records import KEPT_COLUMNS, Claimed, NewJob
from windlass.db.rows import claimed, delete_live, new_row
from windlass.db.shares import shares
from windlass.db.slots import forget_waiters
from windlass.models.jobs import (
    EndedJob,
    EndedJobQuerySet,
    LiveJob,
    LiveJobQuerySet,
    State,
)

# Of the shares of one lane, so many are asked for their oldest job.
SHARES_LOOKED_AT = 200


def _live(db: Dialect) -> LiveJobQuerySet:
    return LiveJob.objects.using(db.database)


def insert_planned(db: Dialect, job: NewJob, *, notify: bool = True) -> datetime:
    """Store a multi-step job; give back when it was enqueued."""
    (enqueued_at,) = Dialect.insert_many(db, [job])
    if notify:
        db.notify([job])
    return enqueued_at


def insert_unique(
    db: Dialect, job: NewJob, key: str, *, notify: bool = True
) -> str | None:
    """Store a job unless another one holds its key; give back the id of the holder."""
    row = new_row(job, db.now())
    row.unique_key = key
    _live(db).bulk_create([row], ignore_conflicts=True)
    held = _live(db).filter(backend_alias=job.backend_alias, unique_key=key)
    holder = held.values_list("id", flat=True).first()
    if notify and holder == row.id:
        db.notify([job])
    return None if holder is None else str(holder)


def refuse(db: Dialect, job: NewJob, key: str, *, reason: str) -> None:
    """Store a job as discarded: it was refused when it came."""
    row, now = new_row(job, db.now()), db.now()
    kept = {name: getattr(row, name) for name in KEPT_COLUMNS}
    EndedJob.objects.using(db.database).create(
        **{**kept, "unique_key": key},
        attempts=0,
        crashes=0,
        state=State.DISCARDED,
        reason=reason,
        finished_at=now,
    )


def end_waiting(
    db: Dialect, ids: Sequence[str], *, why: str = "", skips: bool = False, **end: Any
) -> set[str]:
    """Move jobs that no node holds to the ended table; give back their ids."""
    with transaction.atomic(using=db.database):
        now = db.now()
        rows = _waiting(db, ids, skips)
        for row in rows:
            row.available_at = due(row)
            if why:
                row.policy = {**(row.policy or {}), "why": why}
        EndedJob.objects.using(db.database).bulk_create(
            EndedJob(
                **{name: getattr(row, name) for name in KEPT_COLUMNS},
                **{n: getattr(row, n) for n in ("attempts", "crashes", "history")},
                **end,
                finished_at=now,
            )
            for row in rows
        )
        delete_live(db.database, [row.id for row in rows])
        forget_waiters(db, [str(row.id) for row in rows if row.hold])
    return _ids(rows)


def discard_failed(db: Dialect, ids: Sequence[str]) -> set[str]:
    """Turn failed jobs into discarded ones; give back their ids."""
    with transaction.atomic(using=db.database):
        ended = EndedJob.objects.using(db.database)
        found = list(ended.filter(id__in=ids, state=State.FAILED).select_for_update())
        ended.filter(id__in=[row.id for row in found]).update(state=State.DISCARDED)
    return _ids(found)


def hold(db: Dialect, ids: Sequence[str], *, hold: str) -> set[str]:
    """Make waiting jobs that have no hold wait for something else than time."""
    with transaction.atomic(using=db.database):
        rows = [row for row in _waiting(db, ids) if not row.hold]
        _set(db, rows, hold=hold, available_at=put_off(db))
    return _ids(rows)


def unhold(db: Dialect, ids: Sequence[str]) -> set[str]:
    """Make blocked jobs ready."""
    with transaction.atomic(using=db.database):
        rows = [row for row in _waiting(db, ids) if row.hold]
        _set(db, rows, hold="", available_at=db.now())
        forget_waiters(db, [str(row.id) for row in rows])
        db.notify(rows)
    return _ids(rows)


def hasten(db: Dialect, ids: Sequence[str]) -> set[str]:
    """Make jobs that wait for a time ready."""
    with transaction.atomic(using=db.database):
        now = db.now()
        rows = [r for r in _waiting(db, ids) if not r.hold and r.available_at > now]
        _set(db, rows, available_at=now)
    return _ids(rows)


def revive(
    db: Dialect,
    ids: Sequence[str],
    *,
    states: Sequence[str],
    at: datetime | None = None,
    hold: str = "",
) -> set[str]:
    """Move ended jobs back to waiting with a fresh budget and their history."""
    with transaction.atomic(using=db.database):
        now = max(db.now(), at) if at else db.now()
        moment = postponed(now) if hold else now
        ended = EndedJob.objects.using(db.database)
        rows = list(ended.select_for_update().filter(id__in=ids, state__in=states))
        # One whose unique key another job holds by now stays where it is.
        _live(db).bulk_create(
            [_revived(row, moment, hold) for row in rows], ignore_conflicts=True
        )
        lives = _live(db).filter(id__in=[row.id for row in rows])
        alive = set(lives.values_list("id", flat=True))
        rows = [row for row in rows if row.id in alive]
        ended.filter(id__in=alive)._raw_delete(db.database)
    return _ids(rows)


def _revived(row: EndedJob, moment: datetime, hold: str) -> LiveJob:
    values: dict[str, Any] = {name: getattr(row, name) for name in KEPT_COLUMNS}
    policy = dict(row.policy or {})
    # What a former retry granted counts from the attempts spent before it.
    budget = row.max_attempts - policy.get("spent", 0)
    policy["spent"] = row.attempts
    for said_before in ("expires_at", "why"):
        policy.pop(said_before, None)
    values.update(
        node=None,
        available_at=moment,
        attempts=row.attempts,
        max_attempts=row.attempts + budget,
        policy=policy,
        crashes=0,
        history=row.history,
        hold=hold,
        share=policy.get("share", ""),
    )
    return LiveJob(**values)


def prune(
    db: Dialect,
    *,
    before: datetime,
    since: datetime | None = None,
    among: Callable[[EndedJobQuerySet], EndedJobQuerySet] = lambda ended: ended,
    limit: int = 500,
) -> list[datetime]:
    """
    Delete up to ``limit`` ended jobs, the oldest end first; give back their ends.

    They ended before a moment, and not before ``since``; ``among`` narrows which.
    """
    ended = EndedJob.objects.using(db.database)
    oldest = among(ended.ended_before(before)).order_by("finished_at")
    if since is not None:
        oldest = oldest.filter(finished_at__gte=since)
    # Whoever holds a row's lock is moving it, or deletes it as well.
    skips = db.connection.features.has_select_for_update_skip_locked
    with transaction.atomic(using=db.database):
        locked = oldest.select_for_update(skip_locked=skips)
        found = list(locked.values_list("id", "finished_at")[:limit])
        delete_ended(db, [id for id, _end in found])
    return [end for _id, end in found]


def annotate(db: Dialect, node: int, job: Claimed, **columns: Any) -> bool:
    """Write what a running attempt says about itself, if it still holds the job."""
    rows = _live(db).filter(id=job.id, node=node, claim=job.claim)
    return bool(rows.update(**columns))


def held_by(db: Dialect, node: int, *, limit: int) -> list[Claimed]:
    """Jobs that a node holds."""
    return [claimed(row) for row in _live(db).filter(node=node)[:limit]]


def holders(db: Dialect) -> set[int]:
    """Every node that holds a job. Reads the hot table once; not for hot paths."""
    rows = _live(db).running().order_by()
    return {node for node in rows.values_list("node", flat=True).distinct() if node}


def holdings(db: Dialect, backend_alias: str) -> dict[int, int]:
    """How many jobs each node holds. Reads the hot table once; not for hot paths."""
    rows = _live(db).running().filter(backend_alias=backend_alias).order_by()
    counted = rows.values_list("node").annotate(jobs=Count("id"))
    return {node: jobs for node, jobs in counted if node}


def ready_since(
    db: Dialect, backend_alias: str, *, before: datetime
) -> dict[str, datetime]:
    """Each queue with a job that is ready since before a moment, and since when."""
    found: dict[str, datetime] = {}
    ready = _live(db).ready(now=before).filter(backend_alias=backend_alias)
    moments = ready.order_by("available_at").values_list("available_at", flat=True)
    # Lane by lane, for that is how the index finds the oldest without a sort.
    for lane in db.lanes(backend_alias):
        own = moments.filter(queue_name=lane[0], nice=lane[1])
        for share in ("", *shares(db, backend_alias, lane, limit=SHARES_LOOKED_AT)):
            oldest = own.filter(share=share).first()
            if oldest is not None:
                found[lane[0]] = min(oldest, found.get(lane[0], oldest))
    return found


def _waiting(db: Dialect, ids: Sequence[str], skips: bool = False) -> list[LiveJob]:
    skips = skips and db.connection.features.has_select_for_update_skip_locked
    rows = _live(db).waiting().select_for_update(skip_locked=skips)
    return list(rows.filter(id__in=ids))


def _set(db: Dialect, rows: Sequence[LiveJob], **columns: Any) -> None:
    _live(db).filter(id__in=[row.id for row in rows]).update(**columns)


def _ids(rows: Sequence[LiveJob | EndedJob]) -> set[str]:
    return {str(uuid.UUID(str(row.id))) for row in rows}
