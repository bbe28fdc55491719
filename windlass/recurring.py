"""
Making, changing and removing schedules: by the project's code, and from its settings.

A new schedule is first due at its next due time, and so is one whose times have
changed. Whatever else changes leaves its next due time alone, so a restart or a deploy
neither delays a run nor repeats one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Q, QuerySet

from windlass import conf, db, firing
from windlass.conf_recurring import Recurring
from windlass.db import Dialect
from windlass.exceptions import (
    ConfigurationError,
    EnqueueError,
    InvalidSchedule,
    RefusedTask,
    WindlassError,
)
from windlass.jobs.arguments import dump_call
from windlass.models import Schedule
from windlass.tasks_api import DEFAULT_TASK_BACKEND_ALIAS as DEFAULT
from windlass.tasks_api import InvalidTask, task_backends
from windlass.twins import twin

logger = logging.getLogger("windlass")

TIMES = {"schedule", "timezone"}


def schedule_recurring_task(
    key: str,
    task_path: str,
    schedule: str | int | timedelta,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    queue_name: str = "",
    priority: int | None = None,
    description: str = "",
    timezone: str | None = None,
    overlap: str = "allow",
    missed: str = "latest",
    backend_alias: str = DEFAULT,
) -> Schedule:
    """
    Enqueue a task again and again, as ``schedule`` says; the same key changes it.

    ``schedule`` is cron, an interval such as ``"every 10s"``, seconds, or a timedelta.
    A queue or priority left out is the task's, a zone the project's. Raises
    InvalidSchedule, or EnqueueError for a call that could never be enqueued, with
    nothing stored.
    """
    wanted = {
        "task_path": task_path,
        "schedule": schedule,
        "args": args,
        "kwargs": kwargs,
        "queue_name": queue_name,
        "priority": priority,
        "description": description,
        "timezone": timezone,
        "overlap": overlap,
        "missed": missed,
    }
    return _make(key, wanted, backend_alias)


def unschedule_recurring_task(key: str, backend_alias: str = DEFAULT) -> int:
    """
    Remove a schedule, and give back how many that were: 1 or 0.

    One from the settings is not removed here. Jobs it has enqueued are left alone.
    """
    rows = _schedules(_dialect(backend_alias), backend_alias)
    return rows.filter(key=key, is_static=False).delete()[0]


def pause_recurring_task(key: str, backend_alias: str = DEFAULT) -> int:
    """Let a schedule fire nothing until it is resumed; give back 1, or 0 if none."""
    rows = _schedules(_dialect(backend_alias), backend_alias)
    return rows.filter(key=key, enabled=True).update(enabled=False, next_due_at=None)


def resume_recurring_task(key: str, backend_alias: str = DEFAULT) -> int:
    """Let a paused schedule fire again, from its next due time on; 1, or 0 if none."""
    dialect = _dialect(backend_alias)
    with transaction.atomic(using=dialect.database):
        rows = _schedules(dialect, backend_alias).filter(key=key, enabled=False)
        row = rows.select_for_update().first()
        if row is None:
            return 0
        row.enabled, row.next_due_at = True, _first(dialect, row)
        row.save(update_fields=["enabled", "next_due_at"], using=dialect.database)
    return 1


apause_recurring_task = twin(pause_recurring_task)
aresume_recurring_task = twin(resume_recurring_task)
aschedule_recurring_task = twin(schedule_recurring_task)
aunschedule_recurring_task = twin(unschedule_recurring_task)


def sync(dialect: Dialect, options: conf.Options) -> None:
    """
    Make the static schedules those of the settings; dynamic ones are left alone.

    One that cannot be stored or imported is logged, and never stops the others.
    """
    alias, wanted = options.alias, {item.key: item for item in options.recurring}
    known = _schedules(dialect, alias).filter(Q(is_static=True) | Q(key__in=wanted))
    rows = {row.key: row for row in known}
    for key, item in wanted.items():
        row = rows.get(key)
        try:
            if row is None or not row.is_static or _differing(row, _columns(item)):
                row = _put(dialect, alias, item, is_static=True)
            check_call(item, alias)
        except (OperationalError, InterfaceError):
            raise
        except Exception as error:
            details = None if isinstance(error, WindlassError) else error
            said = "The schedule %r of the settings: %s"
            logger.error(said, key, error, exc_info=details)
            if row is not None and row.is_static:
                note_error(dialect, row, error)
    gone = [key for key, row in rows.items() if row.is_static and key not in wanted]
    if gone:
        _schedules(dialect, alias).filter(is_static=True, key__in=gone).delete()


def check_call(wanted: Recurring, backend_alias: str) -> None:
    """Refuse what could never be enqueued, with EnqueueError."""
    dump_call(wanted.task_path, wanted.args, wanted.kwargs)
    columns = {**_columns(wanted), "backend_alias": backend_alias, "key": wanted.key}
    try:
        task = firing.as_scheduled(Schedule(**columns))
        task_backends[backend_alias].validate_task(task)
    except EnqueueError:
        raise
    except InvalidTask as error:
        raise RefusedTask(f"{wanted.task_path}: {error}") from error


def note_error(dialect: Dialect, schedule: Schedule, error: BaseException) -> None:
    """Show with a schedule why it could not fire; the next time it does forgets it."""
    rows = Schedule.objects.using(dialect.database).filter(pk=schedule.pk)
    rows.update(last_error=f"{type(error).__name__}: {error}"[:2000].replace("\0", ""))


def _make(key: str, wanted: dict[str, Any], backend_alias: str) -> Schedule:
    options = conf.options(backend_alias)
    if not options.scheduler.dynamic_tasks_enabled:
        raise InvalidSchedule(
            f'TASKS["{backend_alias}"]["OPTIONS"]["scheduler"]'
            f'["dynamic_tasks_enabled"] is off, so {key!r} was not stored.'
        )
    try:
        read = conf.recurring(key, wanted, f"schedule_recurring_task({key!r})")
    except ConfigurationError as error:
        raise InvalidSchedule(f"{error}. Nothing was stored.") from error
    check_call(read, backend_alias)
    return _put(_dialect(backend_alias), backend_alias, read, is_static=False)


def _put(
    dialect: Dialect, backend_alias: str, wanted: Recurring, *, is_static: bool
) -> Schedule:
    columns = _columns(wanted)
    new = Schedule(backend_alias=backend_alias, key=wanted.key, **columns)
    new.is_static, new.next_due_at = is_static, _first(dialect, new)
    rows = _schedules(dialect, backend_alias)
    # Several nodes start at once; all but the first find the row there. Outside of the
    # transaction, because MariaDB and MySQL lock what they ignore for two to share, and
    # two that share a lock cannot both have it alone.
    if not rows.filter(key=wanted.key).exists():
        rows.bulk_create([new], ignore_conflicts=True)
    with transaction.atomic(using=dialect.database):
        row = rows.select_for_update().filter(key=wanted.key).first()
        if row is None:
            # Somebody has removed it since it was seen.
            rows.bulk_create([new], ignore_conflicts=True)
            row = rows.select_for_update().get(key=wanted.key)
        if row.is_static != is_static:
            raise InvalidSchedule(_belongs_to_others(row, backend_alias))
        changed = _differing(row, columns)
        for name in changed:
            setattr(row, name, columns[name])
        if TIMES & set(changed) and row.enabled:
            row.next_due_at = new.next_due_at
            changed.append("next_due_at")
        if changed:
            row.last_error = ""
            row.save(update_fields=[*changed, "last_error"], using=dialect.database)
    return row


def _belongs_to_others(row: Schedule, backend_alias: str) -> str:
    place = f'TASKS["{backend_alias}"]["OPTIONS"]["recurring"]["{row.key}"]'
    if row.is_static:
        return f"{place} defines it. Change it there, or choose another key."
    return (
        f"{place} is not used, because schedule_recurring_task made one of that key. "
        f"Call unschedule_recurring_task({row.key!r}), or choose another key."
    )


def _columns(wanted: Recurring) -> dict[str, Any]:
    columns = asdict(wanted)
    del columns["key"]
    return columns


def _differing(row: Schedule, columns: Mapping[str, Any]) -> list[str]:
    return [name for name, value in columns.items() if getattr(row, name) != value]


def _first(dialect: Dialect, row: Schedule) -> datetime:
    when = firing.timing_of(row)
    first = firing.storable(when, when.after(firing.aware(dialect.now())))
    return firing.stored(dialect, first)


def _schedules(dialect: Dialect, backend_alias: str) -> QuerySet[Schedule]:
    rows = Schedule.objects.using(dialect.database)
    return rows.filter(backend_alias=backend_alias)


def _dialect(backend_alias: str) -> Dialect:
    return db.dialect(conf.options(backend_alias).database_alias)
