"""
Starting, cancelling and waiting for processes, on whatever backend runs them.

A start is a guarded update before it is a dispatch, so of two that come together one is
refused. A backend of Windlass's own takes part in the caller's transaction; with any
other a dispatch that fails is taken back.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Q

from windlass.processes import conf, moves, sinks
from windlass.processes.lines import SYSTEM, line, log_model

if TYPE_CHECKING:
    from windlass.processes.models import BaseProcess

# Seconds between looks of who waits: at first, at most, and for what got lost.
SOON, SELDOM, LOST = 0.02, 0.25, 1.0


def start(process: BaseProcess, *, restart: bool = False) -> str:
    """Queue a process and hand it to the backend; RuntimeError if it may not be."""
    log_model(type(process))
    if process.timeout_seconds() <= 0:
        raise ValueError(f"timeout must be longer than 0, not {process.timeout}.")
    backend: Any = conf.backend()
    database = process._windlass_database()
    together: AbstractContextManager[Any] = nullcontext()
    if getattr(backend, "is_transactional", False):
        together = transaction.atomic(using=database)
    with together:
        if not moves.queue(process, restart=restart):
            raise RuntimeError(_refusal(process, restart=restart))
        try:
            task_id, watchdog_id = backend.dispatch(process)
        except BaseException:
            if not getattr(backend, "is_transactional", False):
                moves.unqueue(process)
            raise
        moves.dispatched(process, str(task_id or ""), str(watchdog_id or ""))
    return str(task_id or "")


def cancel(process: BaseProcess) -> None:
    """Cancel a process; see ``BaseProcess.cancel``."""
    backend: Any = conf.backend()
    moves.sync(process)
    watchdog = process.watchdog_task_id
    if moves.end(process, Q(status=moves.PENDING), moves.CANCELLED):
        _say(process, "Cancelled before it ran.")
        if process.celery_task_id:
            backend.kill(process.celery_task_id)
    elif moves.sync(process) == moves.RUNNING:
        watchdog = process.watchdog_task_id
        _say(process, "Cancel was asked for.")
        if process.celery_task_id:
            backend.kill(process.celery_task_id)
        # Of its own make it says later that the code is dead.
        if not (process.celery_task_id and getattr(backend, "ends_later", False)):
            moves.end(process, Q(status=moves.RUNNING), moves.CANCELLED)
    else:
        raise RuntimeError(f"{_name(process)} is {process.status}: it has ended.")
    if watchdog:
        backend.revoke_scheduled(watchdog)


def wait(process: BaseProcess, timeout: float | None) -> str | None:
    """Wait for the end; see ``BaseProcess.wait``."""
    if timeout is not None and not timeout >= 0:
        raise ValueError(f"timeout must be seconds from 0 on, not {timeout!r}.")
    settle = getattr(conf.backend(), "settle", None)
    deadline = None if timeout is None else time.monotonic() + timeout
    pause, look_at = SOON, time.monotonic() + LOST
    while (status := moves.sync(process)) not in moves.ENDS:
        now = time.monotonic()
        if deadline is not None and now >= deadline:
            return None
        if now >= look_at:
            look_at = now + LOST
            if settle is not None:
                settle(process)
        left = pause if deadline is None else min(pause, deadline - now)
        time.sleep(max(0.0, left))
        pause = min(SELDOM, 1.5 * pause)
    # What the run has stored in columns of its own, too.
    process.refresh_from_db()
    return status


def _say(process: BaseProcess, message: str) -> None:
    sinks.sink_of(process).log(line(message, level="warning", stream=SYSTEM))


def _refusal(process: BaseProcess, *, restart: bool) -> str:
    status = moves.sync(process)
    name = _name(process)
    if status == moves.PENDING:
        return f"{name} was started before, and waits to be run."
    if status == moves.RUNNING:
        return f"{name} is running, so it cannot be started."
    return f"{name} is {status}, so it cannot be started. Use restart()."


def _name(process: BaseProcess) -> str:
    return f"{type(process).__name__} {process.pk}"
