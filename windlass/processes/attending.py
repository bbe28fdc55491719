"""
The native worker's part: going along with a process's job until all of it is dead.

It reads from the job's outcome what the run could not say itself: timed out, cancelled,
crashed. It does so when the process and its group are gone, and before the job's end is
recorded.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.db.models import Q

from windlass.db import Claimed, Ended
from windlass.exceptions import JobCancelled, JobTimeout
from windlass.jobs.outcomes import Outcome
from windlass.models.jobs import Reason
from windlass.processes import conf, moves
from windlass.processes.attendance import Attendance, crashed, let_go
from windlass.processes.listening import path_of
from windlass.runtime.attendants import Attendant, attendants

if TYPE_CHECKING:
    from windlass.processes.models import BaseProcess

TASK = "windlass.processes.tasks.run_process"


def attend() -> None:
    """Have the runtime's workers attend the jobs of processes."""
    attendants[TASK] = ProcessAttendant


class ProcessAttendant(Attendant):
    """Attends one attempt of one process."""

    def __init__(self, job: Claimed) -> None:
        from windlass.processes.tasks import load, token_of

        label, pk, database, self.run_number = json.loads(job.args)
        options = conf.options()
        self.terms = (options.kill_term_retries, options.kill_term_wait_seconds)
        self.job, self.token = job, token_of(job)
        self.attendance: Attendance | None = None
        try:
            process = load(label, pk, database)
        finally:
            let_go(database)
        if process is not None:
            # The attempt that is about to begin.
            path, attempt = path_of(job.id, job.claim), process.attempts + 1
            self.attendance = Attendance(process, path, attempt=attempt)

    def told(self, stop: BaseException) -> None:
        """Say in the log why the run is to end."""
        if self.attendance is not None:
            self.attendance.told(timed_out=isinstance(stop, JobTimeout))

    def rung(self, number: int, pid: int) -> None:
        """Say in the log which signal was sent."""
        if self.attendance is not None:
            self.attendance.rung(number, pid)

    def ended(self, outcome: Outcome, said: dict[str, Any]) -> None:
        """Store the last lines, and then what became of the process."""
        if self.attendance is None:
            return
        process = self.attendance.process
        status, text, traceback = self._verdict(process, outcome, said)
        guard = moves.holds(self.token)
        if status not in (moves.PENDING, moves.SUCCEEDED):
            # An attempt that did not get as far as to begin is ended, too.
            guard |= Q(status=moves.PENDING, run_number=self.run_number)
        self.attendance.end(guard, status, said, error=text, traceback=traceback)

    def _verdict(
        self, process: BaseProcess, outcome: Outcome, said: dict[str, Any]
    ) -> tuple[str, str, str]:
        move = outcome.move
        history = json.loads(move.history or "[]") or [{}]
        traceback = history[-1].get("traceback", "")
        text = moves.last_line(traceback)
        if isinstance(outcome.error, JobTimeout):
            text = moves.too_long(process)
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
            text = crashed(said)
        return moves.FAILED, text, traceback
