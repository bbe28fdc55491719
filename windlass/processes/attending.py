"""
The worker's part: going along with a process's job until all of it is dead.

It listens to the run, says every rung of the ladder in its log, and moves the status to
what the run could not say itself: timed out, cancelled, crashed. It does so when the
process and its group are gone, and before the job's end is recorded.
"""

from __future__ import annotations

import json
import signal
import time
from contextlib import suppress
from typing import Any

from django.db import DatabaseError, InterfaceError, connections
from django.db.models import Q

from windlass.db import Claimed, Ended
from windlass.exceptions import JobCancelled, JobTimeout
from windlass.jobs.outcomes import Outcome
from windlass.models.jobs import Reason
from windlass.processes import conf, limiting, moves
from windlass.processes.collector import Collector
from windlass.processes.lines import SYSTEM, line, target_of
from windlass.processes.listening import Listener, path_of
from windlass.processes.sandbox.bundles import Bundle, name_of
from windlass.runtime.attendants import Attendant, attendants
from windlass.runtime.child import how_it_ended
from windlass.runtime.memory import megabytes

TASK = "windlass.processes.tasks.run_process"
# Seconds for which an end is told to a database that is away; later a sweep tells it.
PATIENCE = 20.0


def attend() -> None:
    """Have the runtime's workers attend the jobs of processes."""
    attendants[TASK] = ProcessAttendant


class ProcessAttendant(Attendant):
    """Attends one attempt of one process."""

    def __init__(self, job: Claimed) -> None:
        from windlass.processes.tasks import load, token_of

        label, pk, database, self.run_number = json.loads(job.args)
        options = conf.options()
        self.most = options.kill_term_retries
        self.terms = (self.most, options.kill_term_wait_seconds)
        self.job, self.token = job, token_of(job)
        self.rungs: list[int] = []
        self.database = database
        try:
            self.process = load(label, pk, database)
        finally:
            self._let_go()
        self.collector: Collector | None = None
        if self.process is not None:
            target = target_of(self.process)
            # The attempt that is about to begin.
            target = target._replace(attempt=self.process.attempts + 1)
            self.collector = Collector(target)
            self.listener = Listener(
                path_of(job.id, job.claim),
                self.collector,
                is_wary=options.executor == "sandbox",
            )
            self.collector.start()
            self.listener.start()

    def told(self, stop: BaseException) -> None:
        """Say in the log why the run is to end."""
        if self.process is None:
            return
        if isinstance(stop, JobTimeout):
            self._say(f"{moves.too_long(self.process)} It is being ended.")
        else:
            self._say("It was cancelled, and is being ended.")

    def rung(self, number: int, pid: int) -> None:
        """Say in the log which signal was sent."""
        self.rungs.append(number)
        terms = self.rungs.count(signal.SIGTERM)
        counted = f" ({terms} of {self.most})" if number == signal.SIGTERM else ""
        self._say(f"{signal.Signals(number).name}{counted} to process group {pid}.")

    def ended(self, outcome: Outcome, said: dict[str, Any]) -> None:
        """Store the last lines, and then what became of the process."""
        if self.process is None or self.collector is None:
            return
        options = conf.options()
        if options.executor == "sandbox":
            # Its launcher was killed, or it is gone already.
            Bundle.of(options, name_of(self.job.id, self.job.claim)).remove()
        if self.rungs:
            escalated = "with" if signal.SIGKILL in self.rungs else "without"
            count = f"{len(self.rungs)} signal{'' if len(self.rungs) == 1 else 's'}"
            self._say(f"It ended after {count}, {escalated} SIGKILL; {_used(said)}.")
        status, text, traceback = self._verdict(outcome, said)
        if status in (moves.FAILED, moves.TIMED_OUT) and not self._has_ended():
            self._say(text, level="error")
        self.listener.close()
        self.collector.close()
        try:
            self._move(status, text, traceback)
        finally:
            self._let_go()

    def _verdict(self, outcome: Outcome, said: dict[str, Any]) -> tuple[str, str, str]:
        move = outcome.move
        history = json.loads(move.history or "[]") or [{}]
        traceback = history[-1].get("traceback", "")
        text = moves.last_line(traceback)
        if isinstance(outcome.error, JobTimeout) and self.process is not None:
            text = moves.too_long(self.process)
        elif isinstance(outcome.error, JobCancelled):
            text = ""
        if not isinstance(move, Ended):
            return moves.PENDING, text, traceback
        if move.state == "succeeded":
            return moves.SUCCEEDED, "", ""
        if move.state != "failed":
            return moves.CANCELLED, text, traceback
        if move.reason == Reason.TIMEOUT:
            return moves.TIMED_OUT, text, traceback
        if move.reason == Reason.CRASHED:
            text = f"Its process {_exit(said)}; {_used(said)}."
            text += limiting.cause(said, conf.options())
        return moves.FAILED, text, traceback

    def _guard(self) -> Q:
        # An attempt that did not get as far as to begin is ended, too.
        waiting = Q(status=moves.PENDING, run_number=self.run_number)
        return moves.holds(self.token) | waiting

    def _has_ended(self) -> bool:
        assert self.process is not None
        with suppress(DatabaseError, InterfaceError):
            return not moves.rows(self.process).filter(self._guard()).exists()
        return False

    def _move(self, status: str, text: str, traceback: str) -> None:
        assert self.process is not None
        guard = self._guard()
        if status in (moves.PENDING, moves.SUCCEEDED):
            guard = moves.holds(self.token)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                moves.end(self.process, guard, status, error=text, traceback=traceback)
                return
            except (DatabaseError, InterfaceError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _let_go(self) -> None:
        # Of the connection of this thread, which has nothing to ask for hours.
        connections[self.database].close()

    def _say(self, message: str, *, level: str = "warning") -> None:
        if self.collector is not None:
            self.collector.log(line(message, level=level, stream=SYSTEM))


def _used(said: dict[str, Any]) -> str:
    if "exit" not in said:
        return "nobody saw how"
    return f"it had used {megabytes(said['memory'])} and {said['cpu']:g} s of CPU time"


def _exit(said: dict[str, Any]) -> str:
    return how_it_ended(said["exit"]) if "exit" in said else "is gone"
