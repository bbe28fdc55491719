"""
What jobs remember of their durable steps, and what is sent to them.

A memo is written by the attempt that holds its job, in one statement that locks the
job's row: whoever takes the job over does it before, and then nothing is written, or
after, and then it knows the memo.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db import transaction
from django.utils import timezone

from windlass.db.base import Dialect
from windlass.db.records import Claimed
from windlass.db.slots import Slots
from windlass.models.jobs import EndedJob, LiveJob
from windlass.models.memos import Event, Memo
from windlass.models.view import Job

Kind = Memo.Kind
COLUMNS = (
    *("job", "step", "kind", "name", "ordinal", "place"),
    *("function_path", "version", "result", "recorded_at"),
)
RECORD = f"""
    INSERT INTO windlass_memo ({", ".join(COLUMNS)})
    SELECT {", ".join(["%s"] * len(COLUMNS))} FROM windlass_live
     WHERE id = %s AND node = %s AND claim = %s
"""


class Remembered(NamedTuple):
    """A memo of one job. Its result goes in as JSON text, and comes out as a value."""

    step: int
    kind: str
    name: str
    ordinal: int
    place: int | None
    function_path: str
    version: str
    result: Any


def record(db: Dialect, node: int, job: Claimed, memo: Remembered) -> bool:
    """Let a job remember something, if this attempt still holds it."""
    connection = db.connection
    id = Memo._meta.get_field("job").get_db_prep_save(uuid.UUID(job.id), connection)
    now = Memo._meta.get_field("recorded_at").get_db_prep_save(
        timezone.now(), connection
    )
    locks = connection.features.has_select_for_update
    sql = RECORD + "FOR UPDATE" if locks else RECORD
    with connection.cursor() as cursor:
        cursor.execute(sql, (id, *memo, now, id, node, job.claim))
        return bool(cursor.rowcount)


def remembered(db: Dialect, job: str) -> list[Remembered]:
    """All that a job remembers."""
    rows = Memo.objects.using(db.database).filter(job=job)
    return list(map(Remembered._make, rows.values_list(*Remembered._fields)))


def wake(db: Dialect, job: str, *, now: float) -> None:
    """End the sleep of a job, if it sleeps; ``now`` in epoch seconds."""
    rows = Memo.objects.using(db.database).filter(job=job, kind=Kind.SLEEP)
    for pk, until in rows.values_list("pk", "result"):
        if until is not None and until > now:
            rows.filter(pk=pk).update(result=now)


# Events


def store_event(
    db: Dialect, job: str, name: str, payload: Any, event_id: str | None
) -> bool:
    """Keep an event for a job; False if one of its id is kept; in a transaction."""
    Slots(db).begin_writing()
    events = Event.objects.using(db.database)
    what = {"name": name, "payload": payload, "sent_at": timezone.now()}
    if event_id is None:
        events.create(job=job, **what)
        return True
    _event, is_new = events.get_or_create(job=job, event_id=event_id, defaults=what)
    return is_new


def next_event(
    db: Dialect, job: str, name: str, taken: Sequence[int]
) -> tuple[int, Any] | None:
    """The first event of a name that a job has not taken: its id and payload."""
    rows = Event.objects.using(db.database).filter(job=job, name=name)
    rows = rows.exclude(id__in=taken).order_by("id")
    return rows.values_list("id", "payload").first()


def waits_for(db: Dialect, job: str, name: str) -> bool:
    """Whether a job has begun to wait for an event and not got it."""
    rows = Memo.objects.using(db.database).filter(job=job, name=name)
    found: dict[str, set[Any]] = {Kind.WAIT.value: set(), Kind.EVENT.value: set()}
    rows = rows.filter(kind__in=list(found))
    for kind, *which in rows.values_list("kind", "step", "ordinal"):
        found[kind].add(tuple(which))
    return bool(found[Kind.WAIT] - found[Kind.EVENT])


def settle(db: Dialect, job: str) -> None:
    """Wait until nobody else is moving a job; in a transaction."""
    Slots(db).begin_writing()
    rows = LiveJob.objects.using(db.database).filter(id=job)
    list(rows.select_for_update().values_list("id"))


# Their end


def delete_ended(db: Dialect, ids: Sequence[uuid.UUID]) -> None:
    """Delete jobs that have ended, with all that they remember."""
    ended = EndedJob.objects.using(db.database).filter(id__in=ids)
    ended._raw_delete(db.database)
    forget(db, ids)


def forget(db: Dialect, ids: Sequence[uuid.UUID]) -> None:
    """Delete what some jobs remember and what was sent to them."""
    for model in (Memo, Event):
        rows = model._default_manager.using(db.database).filter(job__in=ids)
        rows._raw_delete(db.database)


def forget_gone(
    db: Dialect, *, after: uuid.UUID | None, limit: int
) -> uuid.UUID | None:
    """
    Look at so many jobs with memos or events, and forget for those that are gone.

    They are looked at in order, beyond one; gives back the last, None at the end.
    """
    found: set[uuid.UUID] = set()
    for model in (Memo, Event):
        rows = model._default_manager.using(db.database).order_by("job")
        if after is not None:
            rows = rows.filter(job__gt=after)
        found.update(rows.values_list("job", flat=True).distinct()[:limit])
    looked = sorted(found)[:limit]
    if looked:
        with transaction.atomic(using=db.database):
            jobs = Job.objects.using(db.database).filter(pk__in=looked)
            kept = set(jobs.values_list("pk", flat=True))
            forget(db, [id for id in looked if id not in kept])
    return looked[-1] if len(looked) == limit else None
