"""
Watching from elsewhere: for runs whose supervision is gone, or hangs.

A supervision sees to its run itself, time and ladder and all. A watchdog looks whether
it is there: by pid and start time on the same host, else by its beat, and where that
stays away by asking the host's workers. Dead is what is not among their processes any
more; a host that answers nobody for long is lost.
"""

from __future__ import annotations

import logging
import os
import signal
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import models, router
from django.db.models import Q
from django.utils import timezone

from windlass.contrib.celery import beating, sending
from windlass.contrib.celery.tokens import Token, is_cancelled, scope
from windlass.processes import moves, sinks
from windlass.processes.lines import SYSTEM, line
from windlass.processes.settling import process_models
from windlass.runtime import identity

if TYPE_CHECKING:
    from windlass.processes.models import BaseProcess

logger = logging.getLogger("windlass")

# Without a beat for so many seconds, a run's host is asked.
STALE = 6 * beating.EVERY
# Seconds for an answer, between two questions, and how many of them make a host lost.
ANSWER, ASK_EVERY, QUESTIONS = 3.0, 15.0, 4
# Seconds between two looks at what was killed.
SOON = 2.0
# Seconds beyond the timeout and the ladder, for which a supervision may still be busy.
SLACK = 30.0
# A message that waits so long may have been lost: it is sent again, which harms nobody.
RESEND = timedelta(hours=1)
BATCH = 500


class Life(NamedTuple):
    """Which processes of an attempt are alive."""

    supervision: bool
    run: bool


def watch(
    process: BaseProcess,
    text: str,
    *,
    is_late: bool = False,
    is_doubtful: bool = False,
    is_single: bool = False,
    silent: int = 0,
) -> None:
    """
    Look at an attempt, do what has to be done, and have it looked at again.

    Again only if something is amiss for a look that ``is_single``. An attempt that
    ``is_late`` should have ended; one that ``is_doubtful`` may be dead though it has
    just beaten. ``silent`` counts the questions that nobody has answered.
    """
    token = Token.read(text or process.run_token)
    if token is None or not moves.rows(process).filter(token.holds()).exists():
        return
    is_late = is_late or _is_over(process)
    is_doubtful = is_late or is_doubtful or token.scope == scope()
    lives = not is_doubtful and _has_beaten(process)
    life = Life(True, True) if lives else look(process, token)
    if life is None and silent + 1 < QUESTIONS:
        said = {"silent": silent + 1, "is_late": is_late, "is_single": is_single}
        delay = ASK_EVERY
        sending.send_watchdog(process, token, delay=delay, is_doubtful=True, **said)
    elif life is None or _is_dead(process, life, is_late=is_late):
        _end(process, is_lost=life is None)
    elif is_late or not life.supervision:
        _kill(process, token)
        sending.send_watchdog(process, token, delay=SOON, is_late=True)
    elif not is_single:
        sending.send_watchdog(process, token)


def look(process: BaseProcess, token: Token) -> Life | None:
    """Find out which processes of an attempt live; None if its host does not answer."""
    pids = processes_of(process, token)
    if token.scope == scope():
        return Life(*(identity.is_running(*each) for each in pids))
    said = {"scope": token.scope, "processes": pids}
    answers = sending.broadcast("windlass_look", said, reply=True, timeout=ANSWER)
    for answer in answers or ():
        for found in answer.values():
            if isinstance(found, list):
                return Life(*found)
    return None


def processes_of(process: BaseProcess, token: Token) -> list[list[int]]:
    """Pid and start of the supervision, and of the run."""
    leader = [process.worker_pid or 0, token.leader_start]
    return [[token.supervisor, token.supervisor_start], leader]


def settle(process: BaseProcess) -> bool:
    """End a process that ran on this host, if all of it is dead."""
    token = Token.read(process.run_token) if process.run_token else None
    if process.status != moves.RUNNING or token is None or token.scope != scope():
        return False
    return look(process, token) == (False, False) and _end(process)


def sweep() -> None:
    """Have those looked at that do not beat; send again those that wait for long."""
    now = timezone.now()
    for model in process_models():
        rows: Any = models.QuerySet(model, using=router.db_for_write(model))
        sent = rows.exclude(celery_task_id="")
        silent = sent.filter(
            status=moves.RUNNING, modified__lt=now - timedelta(seconds=STALE)
        )
        for process in silent.order_by("modified")[:BATCH]:
            if Token.read(process.run_token) is not None:
                # By an id of its own, for the other may be revoked.
                process.watchdog_task_id = ""
                token = process.run_token
                sending.send_watchdog(process, token, delay=0, is_single=True)
        waiting = sent.filter(status=moves.PENDING, modified__lt=now - RESEND)
        for process in waiting.order_by("modified")[:BATCH]:
            _send_again(process)


def attempts_before(process: BaseProcess) -> int:
    """How many attempts of the present start have ended."""
    return sum(each["run"] == process.run_number for each in process.history)


def _is_over(process: BaseProcess) -> bool:
    """Whether even the ladder must have come to its end, by the database's account."""
    if process.started is None:
        return False
    after = sending.ladder_seconds() + SLACK
    return timezone.now() > process.started + process.timeout + timedelta(seconds=after)


def _is_dead(process: BaseProcess, life: Life, *, is_late: bool) -> bool:
    """Whether the code is dead, and its supervision will not say so."""
    is_about_to = life.supervision and not is_late and _has_beaten(process)
    return not life.run and not is_about_to


def _has_beaten(process: BaseProcess) -> bool:
    return process.modified > timezone.now() - timedelta(seconds=STALE)


def _kill(process: BaseProcess, token: Token) -> None:
    pid, started = processes_of(process, token)[1]
    _say(process, f"Its watchdog fired: SIGKILL to process group {pid}.")
    if token.scope == scope():
        kill(pid, started)
    else:
        said = {"scope": token.scope, "pid": pid, "started": started}
        sending.broadcast("windlass_kill", said)


def kill(pid: int, started: int) -> bool:
    """Kill the group of a run on this host, if its number is still its own."""
    # Never a group that has no number: 0 is one's own, and 1 may be anybody's.
    if pid <= 1 or not identity.is_running(pid, started):
        return False
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
        return True
    return False


def _end(process: BaseProcess, *, is_lost: bool = False) -> bool:
    moves.sync(process)
    gone = f"Its worker on {process.worker_host} is gone."
    if is_lost:
        gone = f"Its host {process.worker_host} gives no answer, and counts as lost."
    attempt = attempts_before(process) + 1
    if is_cancelled(process):
        status, error = moves.CANCELLED, gone if is_lost else ""
    elif process.started and timezone.now() > process.started + process.timeout:
        status, error = moves.TIMED_OUT, f"{moves.too_long(process)} {gone}"
    elif attempt < process.max_attempts:
        status, error = moves.PENDING, gone
    else:
        status, error = moves.FAILED, gone
    # As it was read: a cancel that comes in between is looked at the next time.
    if not moves.end(process, moves.holds(process.run_token), status, error=error):
        return False
    if error:
        _say(process, error, level="error")
    if status == moves.PENDING:
        from windlass.contrib.celery.supervising import queue_again

        queue_again(process, attempt)
    return True


def _send_again(process: BaseProcess) -> None:
    waits = Q(
        status=moves.PENDING,
        run_number=process.run_number,
        modified=process.modified,
    )
    # Nothing changes but the time, so that it is not sent again at once.
    if moves.update(process, waits):
        sending.send_run(process, attempt=attempts_before(process) + 1)


def _say(process: BaseProcess, message: str, *, level: str = "warning") -> None:
    sinks.sink_of(process).log(line(message, level=level, stream=SYSTEM))
