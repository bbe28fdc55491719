"""
Beside a run, in the pool's process of a Celery worker: from its message to its end.

The run is a process of the keeper's, in a group of its own. This one listens to it,
watches the clock from its start, climbs the ladder, and says what became of it when all
of it is dead. So a pool's process is never killed for a run, nor for its time.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import socket
import tempfile
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from django.db.models import Q

from windlass.contrib.celery import retrying, sending
from windlass.contrib.celery.beating import Beat
from windlass.contrib.celery.keeper import keeper
from windlass.contrib.celery.tokens import Token
from windlass.processes import conf, moves
from windlass.processes.attendance import Attendance, crashed, let_go
from windlass.processes.listening import path_of
from windlass.runtime.child import SHOW_STACKS, STACKS_WITHIN
from windlass.runtime.ladder import Ladder

if TYPE_CHECKING:
    from windlass.processes.models import BaseProcess

logger = logging.getLogger("windlass")

MOST_STACKS = 20_000
# Seconds of one wait, for the system counts no longer ones than some.
SELDOM = 3600.0
# Seconds for the death of a run whose worker is told to stop.
LAST = 5.0
# Why a run is to end.
TIMED_OUT, CANCELLED, LOST, STOPPED = "timeout", "cancel", "lost", "stop"


def supervise(
    process: BaseProcess, attempt: int, after: int, *, not_before: float = 0
) -> None:
    """Run one attempt to its end, if it is the one that is due."""
    due = Q(status=moves.PENDING, run_number=process.run_number, attempts=after)
    if not moves.rows(process).filter(due).exists():
        # Cancelled, started again, or this is a message that was delivered twice.
        return
    delay = not_before - time.time()
    if delay > 0:
        # So that it does not count as lost.
        if moves.update(process, due):
            sending.send_run(process, attempt=attempt, delay=delay)
        return
    wake, told = os.pipe()
    try:
        with tempfile.TemporaryFile() as stacks:
            Supervision(process, attempt, (wake, told), stacks).run(due)
    finally:
        os.close(wake)
        os.close(told)


class Supervision:
    """One attempt, seen from the thread that waits for its end."""

    def __init__(
        self, process: BaseProcess, attempt: int, pipe: tuple[int, int], stacks: Any
    ) -> None:
        self.process, self.attempt, self.stacks = process, attempt, stacks
        self.wake, self.told = pipe
        self.may_repeat = attempt < process.max_attempts
        self.said: dict[str, Any] = {}
        self.rest = b""
        self.why: str | None = None

    def run(self, due: Q) -> None:
        """Fork the run, claim it for the process that it has, and wait for its end."""
        self.keeper = keeper()
        try:
            ours = self.keeper.fork(self.stacks.fileno())
        except OSError as error:
            return self._never_began(due, str(error))
        with ours:
            while not {"pid", "refused"} & self.said.keys():
                if not self._listen(ours):
                    break
            if "pid" not in self.said:
                why = self.said.get("refused", "see what the worker has printed")
                return self._never_began(due, why)
            self.token = Token.make(self.said["pid"])
            pid = self.said["pid"]
            if moves.begin(self.process, str(self.token), guard=due, pid=pid):
                self._attend(ours)
                self._follow()
        return None

    def _never_began(self, due: Q, why: str) -> None:
        error = f"There was no process to run it in: {why}."
        moves.end(self.process, due, moves.FAILED, error=error)

    def _attend(self, ours: socket.socket) -> None:
        started = time.monotonic()
        path = path_of(self.process.celery_task_id, self.process.attempts)
        self.attendance = Attendance(
            self.process,
            path,
            attempt=self.process.attempts,
            asked_to_end=lambda: self.ask(CANCELLED),
        )
        beat = Beat(
            self.process,
            self.token,
            cancelled=lambda: self.ask(CANCELLED),
            lost=lambda: self.ask(LOST),
        )
        beat.start()
        try:
            with suppress(sending.BrokerAway):
                # Without it the sweep is the second net, and this the first.
                sending.send_watchdog(self.process, self.token)
            self._hand_in(ours, path)
            let_go(self.process._windlass_database())
            self._look_after(ours, started + self.process.timeout_seconds())
        except BaseException:
            self._kill(ours)
            raise
        finally:
            beat.stop()
            self._end()

    def ask(self, why: str) -> None:
        """Have the run ended; the first reason counts. From any thread."""
        if self.why is None:
            self.why = why
            with suppress(OSError):
                os.write(self.told, b"!")

    # While it runs

    def _hand_in(self, ours: socket.socket, path: str) -> None:
        given = {
            "place": sending.place(self.process),
            "token": str(self.token),
            "path": path,
            "may_repeat": self.may_repeat,
        }
        # If nobody takes it, what comes back says why.
        with suppress(OSError):
            ours.sendall(json.dumps(given).encode() + b"\n")

    def _look_after(self, ours: socket.socket, deadline: float) -> None:
        ladder: Ladder | None = None
        while "exit" not in self.said:
            now = time.monotonic()
            if now >= deadline:
                self.ask(TIMED_OUT)
            if self.why is not None and ladder is None:
                ladder = self._begin_ladder(ours, now)
            for number in ladder.due(now) if ladder else ():
                self.keeper.kill(self.said["pid"], number)
                self.attendance.rung(number, self.said["pid"])
            pause = ladder.pause(now) if ladder else min(deadline - now, SELDOM)
            ready, _, _ = select.select([ours.fileno(), self.wake], [], [], pause)
            if self.wake in ready:
                os.read(self.wake, 1024)
            if ours.fileno() in ready and not self._listen(ours):
                # The keeper is dead, and by its death the run.
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.said["pid"], signal.SIGKILL)
                return

    def _begin_ladder(self, ours: socket.socket, now: float) -> Ladder:
        # From now on the run does not say any more what became of it.
        with suppress(OSError):
            ours.sendall(b"!")
        if self.why != LOST:
            self.attendance.told(timed_out=self.why == TIMED_OUT)
        if SHOW_STACKS is not None:
            self.keeper.kill(self.said["pid"], SHOW_STACKS)
            now += STACKS_WITHIN
        options = conf.options()
        return Ladder(
            now,
            terms=options.kill_term_retries,
            wait=options.kill_term_wait_seconds,
        )

    def _listen(self, ours: socket.socket) -> bool:
        try:
            data = ours.recv(1 << 16)
        except ConnectionError:
            data = b""
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            # Half a line is what a killed process leaves.
            with suppress(ValueError):
                self.said |= json.loads(line) if line else {}
        return bool(data)

    def _kill(self, ours: socket.socket) -> None:
        """End the run at once: the worker does not wait for the ladder."""
        self.why = STOPPED
        self.keeper.kill(self.said["pid"], signal.SIGKILL)
        self.attendance.rung(signal.SIGKILL, self.said["pid"])
        deadline = time.monotonic() + LAST
        while "exit" not in self.said and time.monotonic() < deadline:
            if select.select([ours], [], [], 0.1)[0] and not self._listen(ours):
                return

    # When it is dead

    def _end(self) -> None:
        if self.why == LOST:
            logger.warning("%s was ended: its row is not this run's.", self.process)
        status, error = self._verdict()
        traceback = self._stacks() if self.why in (TIMED_OUT, CANCELLED) else ""
        guard = self.token.holds()
        if status != moves.CANCELLED:
            # A cancel that comes in between is a fact.
            guard = moves.holds(str(self.token))
        moved = self.attendance.end(
            guard, status, self.said, error=error, traceback=traceback
        )
        if not moved:
            moves.end(self.process, self.token.holds(), moves.CANCELLED)

    def _verdict(self) -> tuple[str, str]:
        if self.why == CANCELLED:
            return moves.CANCELLED, ""
        if self.why == TIMED_OUT:
            return moves.TIMED_OUT, moves.too_long(self.process)
        error = crashed(self.said)
        if self.why == STOPPED:
            error = "Its worker was stopped."
        return moves.PENDING if self.may_repeat else moves.FAILED, error

    def _stacks(self) -> str:
        self.stacks.seek(0)
        shown = self.stacks.read(MOST_STACKS).decode(errors="replace")
        return f"In its process it was here:\n{shown}" if shown else ""

    def _follow(self) -> None:
        """Have the next attempt queued, if there is to be one."""
        waits = Q(
            status=moves.PENDING,
            run_number=self.process.run_number,
            attempts=self.process.attempts,
        )
        if moves.rows(self.process).filter(waits).exists():
            queue_again(self.process, self.attempt, self.said.get("after"))


def queue_again(process: BaseProcess, attempt: int, wished: Any = None) -> None:
    """Send what follows an attempt; a process that cannot be sent has failed."""
    follows = retrying.following(attempt, wished)
    waits = Q(status=moves.PENDING, run_number=process.run_number)
    moves.dispatched(process, process.celery_task_id, str(uuid.uuid4()))
    try:
        sending.send_run(process, attempt=follows.attempt, delay=follows.delay)
    except sending.BrokerAway as error:
        moves.end(process, waits, moves.FAILED, error=str(error))
