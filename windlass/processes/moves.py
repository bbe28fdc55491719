"""
The life of a process: every move of its status, each a guarded update of columns.

A move names the status it leaves, and the run and the attempt it belongs to, so when
two parties disagree the database picks one. Nothing saves a whole row: what users
store in their own columns is never touched, nor what they hold in memory.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import models, transaction
from django.db.models import F, Q
from django.utils import timezone

from windlass.processes import notes
from windlass.processes.lines import name_of
from windlass.runtime import identity

if TYPE_CHECKING:
    from windlass.processes.models import BaseProcess

PENDING, RUNNING, SUCCEEDED = "pending", "running", "succeeded"
FAILED, CANCELLED, TIMED_OUT = "failed", "cancelled", "timed_out"
ENDS = (SUCCEEDED, FAILED, CANCELLED, TIMED_OUT)
# What start() takes up again, beside what was never started.
STARTABLE = (FAILED, TIMED_OUT)

# Columns that belong to the engine: read back after each move, and never saved by a
# user's instance unless the user has changed them.
OWNED = (
    *("status", "celery_task_id", "watchdog_task_id", "worker_pid", "worker_host"),
    *("sandbox_id", "error", "queued", "started", "finished", "run_number"),
    *("run_token", "attempts", "history", "progress_data"),
)
MOST_HISTORY = 50


def rows(process: BaseProcess) -> models.QuerySet[Any]:
    """The one row that holds a process's status."""
    # The model that has the column: with multi-table inheritance an UPDATE by way of
    # the child would look first and write later.
    owner = process._meta.get_field("status").model
    found: Any = models.QuerySet(owner, using=process._windlass_database())
    own: models.QuerySet[Any] = found.filter(
        pk=getattr(process, owner._meta.pk.attname)
    )
    return own


def update(process: BaseProcess, guard: Q, **columns: Any) -> bool:
    """Write columns if the guard still holds; the instance then shows the row."""
    columns["modified"] = timezone.now()
    moved = bool(rows(process).filter(guard).update(**columns))
    if moved:
        sync(process)
    return moved


def sync(process: BaseProcess) -> str:
    """Read the engine's columns into the instance; give back the status."""
    found = rows(process).values(*OWNED, "modified").first()
    if found is None:
        raise type(process).DoesNotExist(
            f"{type(process).__name__} {process.pk} is not in the database any more."
        )
    for name, value in found.items():
        setattr(process, name, value)
    process._windlass_note()
    return str(process.status)


def queue(process: BaseProcess, *, restart: bool) -> bool:
    """Make a process wait for its next run; what the last one left is cleared."""
    guard = Q(status=PENDING, queued=None)
    guard |= Q(status__in=ENDS if restart else STARTABLE)
    return update(
        process,
        guard,
        status=PENDING,
        queued=timezone.now(),
        # It may be set on the instance alone, just before the start.
        timeout=process.timeout,
        run_number=F("run_number") + 1,
        run_token="",
        error="",
        started=None,
        finished=None,
        progress_data=None,
        celery_task_id="",
        watchdog_task_id="",
    )


def unqueue(process: BaseProcess, task_id: str = "") -> bool:
    """Take back that a process waits: nobody took it, under that id at least."""
    own = Q(status=PENDING, run_number=process.run_number, celery_task_id=task_id)
    gone = {"celery_task_id": "", "watchdog_task_id": ""}
    return update(process, own, queued=None, **gone)


def dispatched(process: BaseProcess, task_id: str, watchdog_id: str) -> None:
    """Note what runs a process; whatever it has come to meanwhile stays so."""
    own = Q(run_number=process.run_number)
    update(process, own, celery_task_id=task_id)
    # A run that has ended has no watchdog any more.
    update(process, own & ~Q(status__in=ENDS), watchdog_task_id=watchdog_id)


def begin(
    process: BaseProcess,
    token: str,
    *,
    guard: Q | None = None,
    pid: int | None = None,
) -> bool:
    """
    Claim a process for an attempt, before the first line of its ``run()``.

    From pending, or where ``guard`` holds. ``pid`` is where it will run, if not here.
    """
    guard = Q(status=PENDING) if guard is None else guard
    now = timezone.now()
    with transaction.atomic(using=process._windlass_database()):
        before = rows(process).select_for_update().filter(guard).first()
        if before is None:
            return False
        return update(
            process,
            guard,
            status=RUNNING,
            run_token=token,
            attempts=F("attempts") + 1,
            started=now,
            finished=None,
            error="",
            progress_data=None,
            worker_pid=os.getpid() if pid is None else pid,
            worker_host=identity.host().split("/")[0],
            history=_history(before, "lost", "Its worker was gone."),
        )


def end(
    process: BaseProcess,
    guard: Q,
    status: str,
    *,
    error: str = "",
    traceback: str = "",
) -> bool:
    """End an attempt, or a process that waits; False if the guard does not hold."""
    with transaction.atomic(using=process._windlass_database()):
        before = rows(process).select_for_update().filter(guard).first()
        if before is None:
            return False
        # Who follows the log need not wait for a line that does not come.
        notes.tell(name_of(process), process._windlass_database())
        return update(
            process,
            guard,
            status=status,
            error=error,
            finished=timezone.now() if status in ENDS else None,
            history=_history(before, status, error, traceback),
            run_token="",
            watchdog_task_id="",
            worker_pid=None,
            sandbox_id="",
        )


def holds(token: str) -> Q:
    """The guard of an attempt: it runs, and no other has begun."""
    return Q(status=RUNNING, run_token=token)


def _history(row: Any, status: str, error: str, traceback: str = "") -> list[Any]:
    """The past attempts of a row, with the one that runs as if it ended so."""
    history = row.history or []
    if row.status != RUNNING:
        return list(history)
    entry = {
        "run": row.run_number,
        "attempt": row.attempts,
        "status": status,
        "started": row.started and row.started.isoformat(),
        "ended": timezone.now().isoformat(),
        "host": row.worker_host,
        "pid": row.worker_pid,
        "error": error,
        "traceback": traceback,
    }
    return [*history, entry][-MOST_HISTORY:]


def last_line(traceback: str) -> str:
    """What a traceback says of its error; empty if it says nothing."""
    return (traceback.strip().splitlines() or [""])[-1]


def in_words(duration: timedelta) -> str:
    """A duration as people say it: 20 minutes 0 seconds."""
    minutes, seconds = divmod(duration.total_seconds(), 60)
    said = f"{seconds:g} second{'' if seconds == 1 else 's'}"
    if not minutes:
        return said
    return f"{minutes:.0f} minute{'' if minutes == 1 else 's'} {said}"


def too_long(process: BaseProcess) -> str:
    """What is said of a process that ran longer than it may."""
    return f"It ran longer than its timeout of {in_words(process.timeout)}."
