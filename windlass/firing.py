"""
Firing what is due: enqueue and mark, in one transaction, exactly once.

Whoever fires first moves the schedule's next due time, from the very one it has seen;
whoever comes second moves nothing and is done. So any number of nodes may fire at
once, and one that dies in between has done nothing. The mark stands for what that
cannot: a clock that went back, a schedule that was removed and made again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from windlass.db import Dialect
from windlass.jobs import cancelling
from windlass.jobs.resolving import resolve
from windlass.models import LiveJob, Schedule, ScheduleMark
from windlass.schedules import Timing, decide, timing
from windlass.task import Task
from windlass.tasks_api import task_backends

# Where a job that a schedule has made says so, in its metadata.
LABEL = "schedule"


def soon(
    db: Dialect,
    backend_alias: str,
    *,
    until: datetime,
    besides: Collection[int],
    dynamic: bool,
    limit: int,
) -> list[Schedule]:
    """Schedules that are due up to a moment, the soonest first. It reads no others."""
    rows = Schedule.objects.using(db.database).filter(
        backend_alias=backend_alias, next_due_at__lte=stored(db, until)
    )
    if besides:
        rows = rows.exclude(pk__in=besides)
    if not dynamic:
        rows = rows.filter(is_static=True)
    return list(rows.order_by("next_due_at")[:limit])


def fire(
    db: Dialect, schedule: Schedule, *, now: datetime, missed_before: datetime
) -> datetime:
    """
    Do what a due schedule asks for, once over all nodes; give back its next due time.

    Raises what keeps it from being enqueued, with nothing changed: it stays due.
    """
    when = timing_of(schedule)
    assert schedule.next_due_at is not None, "a schedule that is paused is not due"
    due, following = decide(
        when,
        aware(schedule.next_due_at),
        now=now,
        missed=schedule.missed,
        missed_before=missed_before,
    )
    following = storable(when, following)
    with transaction.atomic(using=db.database):
        # This first: whoever comes second waits here, and finds another time.
        if _moved(db, schedule, following, due=due, now=now) and due is not None:
            _fire_once(db, schedule, due, now)
    return following


def timing_of(schedule: Schedule) -> Timing:
    """When a stored schedule is due; ValueError if it was written by other hands."""
    return timing(schedule.schedule, schedule.timezone or settings.TIME_ZONE)


def storable(when: Timing, moment: datetime) -> datetime:
    """
    A due time, or the first one after it that the project can store.

    Without USE_TZ a time is what the wall shows, and the hour that it shows twice in
    autumn is one hour: what would be due in its second run is not.
    """
    while not settings.USE_TZ and _is_shown_again(moment):
        moment = when.after(moment)
    return moment


def aware(moment: datetime) -> datetime:
    """A moment of the database, with its zone."""
    return timezone.make_aware(moment) if timezone.is_naive(moment) else moment


def stored(db: Dialect, moment: datetime) -> datetime:
    """An aware moment as this project stores times."""
    return db.moment(moment.timestamp())


def restart_after_the_clock_went_back(db: Dialect, backend_alias: str) -> None:
    """
    Let schedules start from now that have fired in what is the future again.

    What they have fired is marked, so it is not fired a second time.
    """
    now = aware(db.now())
    rows = Schedule.objects.using(db.database).filter(
        backend_alias=backend_alias,
        next_due_at__isnull=False,
        last_fired_at__gt=stored(db, now + timedelta(minutes=1)),
    )
    for row in rows:
        try:
            when = timing_of(row)
        except ValueError:
            # It is shown with the schedule when that is due, and must stop no other.
            continue
        own = Schedule.objects.using(db.database)
        own.filter(pk=row.pk, next_due_at=row.next_due_at).update(
            next_due_at=stored(db, storable(when, when.after(now))),
            last_fired_at=stored(db, now),
        )


def prune_marks(
    db: Dialect,
    backend_alias: str,
    *,
    before: datetime,
    key: str | None = None,
    limit: int = 500,
) -> int:
    """
    Delete up to ``limit`` marks due before a moment, the oldest first.

    Never the newest of a schedule, nor the newest that tells which job it made last.
    """
    rows = old_marks(db, backend_alias, before=before, key=key).order_by("due_at")
    ids = list(rows.values_list("id", flat=True)[:limit])
    marks = ScheduleMark.objects.using(db.database)
    return marks.filter(id__in=ids)._raw_delete(db.database) or 0


def old_marks(
    db: Dialect, backend_alias: str, *, before: datetime, key: str | None = None
) -> QuerySet[ScheduleMark]:
    """Marks that were due before a moment and that nothing needs any more."""
    marks = ScheduleMark.objects.using(db.database)
    marks = marks.filter(backend_alias=backend_alias)
    newer = marks.filter(key=OuterRef("key"), due_at__gt=OuterRef("due_at"))
    old = marks.filter(
        Exists(newer.filter(job__isnull=False)) | Q(Exists(newer), job__isnull=True),
        due_at__lt=before,
    )
    return old if key is None else old.filter(key=key)


def _is_shown_again(moment: datetime) -> bool:
    return bool(moment.astimezone(timezone.get_default_timezone()).fold)


def _moved(
    db: Dialect,
    schedule: Schedule,
    following: datetime,
    *,
    due: datetime | None,
    now: datetime,
) -> int:
    columns: dict[str, Any] = {"next_due_at": stored(db, following), "last_error": ""}
    if due is not None:
        columns["last_due_at"] = stored(db, due)
        columns["last_fired_at"] = stored(db, now)
    # Its timing too: another one may have the same due time, and not the next.
    return (
        Schedule.objects.using(db.database)
        .filter(
            pk=schedule.pk,
            next_due_at=schedule.next_due_at,
            schedule=schedule.schedule,
            timezone=schedule.timezone,
        )
        .update(**columns)
    )


def _fire_once(db: Dialect, schedule: Schedule, due: datetime, now: datetime) -> None:
    marks = ScheduleMark.objects.using(db.database).filter(
        backend_alias=schedule.backend_alias, key=schedule.key
    )
    due_at = stored(db, due)
    if marks.filter(due_at=due_at).exists():
        return
    job = None
    if _may_enqueue(db, schedule):
        job = UUID(_enqueue(schedule, due).id)
    marks.create(
        backend_alias=schedule.backend_alias,
        key=schedule.key,
        due_at=due_at,
        fired_at=stored(db, now),
        job=job,
    )


def _may_enqueue(db: Dialect, schedule: Schedule) -> bool:
    if schedule.overlap == Schedule.Overlap.ALLOW:
        return True
    previous = _previous(db, schedule)
    if previous is None:
        return True
    if schedule.overlap == Schedule.Overlap.SKIP:
        return not LiveJob.objects.using(db.database).filter(pk=previous).exists()
    why = f"the schedule {schedule.key!r} is due again"
    cancelling.cancel(db, schedule.backend_alias, str(previous), why)
    return True


def _previous(db: Dialect, schedule: Schedule) -> UUID | None:
    marks = ScheduleMark.objects.using(db.database).filter(
        backend_alias=schedule.backend_alias, key=schedule.key, job__isnull=False
    )
    return marks.order_by("-due_at").values_list("job", flat=True).first()


def _enqueue(schedule: Schedule, due: datetime) -> Any:
    metadata = {LABEL: {"key": schedule.key, "due_at": due.astimezone(UTC).isoformat()}}
    call = as_scheduled(schedule, metadata)
    backend = task_backends[schedule.backend_alias]
    return backend.enqueue(call, schedule.args, schedule.kwargs)


def as_scheduled(schedule: Schedule, metadata: dict[str, Any] | None = None) -> Task:
    """The task of a schedule with the schedule's own queue, priority and metadata."""
    task: Any = resolve(schedule.task_path)
    said: dict[str, Any] = {"backend": schedule.backend_alias}
    if schedule.queue_name:
        said["queue_name"] = schedule.queue_name
    if schedule.priority is not None:
        said["priority"] = schedule.priority
    if not isinstance(task, Task):
        # Django 6.0's own decorator makes tasks that know no metadata.
        task = Task(
            func=task.func,
            priority=task.priority,
            queue_name=task.queue_name,
            backend=schedule.backend_alias,
            takes_context=task.takes_context,
            run_after=None,
        )
    if metadata:
        said["metadata"] = {**(task.metadata or {}), **metadata}
    made: Task = replace(task, **said)
    return made
