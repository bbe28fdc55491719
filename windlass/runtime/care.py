"""
One job in a process of its own, as the thread that looks after it sees it.

The thread hands the job in and waits for three things at once: what the child says,
how the fork server says it ended, and somebody who wants it to stop. Then it climbs
the ladder: the stacks, SIGTERM to the group, the grace, SIGKILL.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from windlass.db import Advanced, Claimed, Ended, Returned
from windlass.exceptions import ProcessExitError
from windlass.jobs import attempts, lifecycle, outcomes
from windlass.jobs.lifecycle import Attempt, Move
from windlass.jobs.outcomes import Outcome
from windlass.jobs.policies import refusal
from windlass.models.jobs import Reason
from windlass.runtime.attendants import attendant_of
from windlass.runtime.child import SHOW_STACKS, STACKS_WITHIN, how_it_ended
from windlass.runtime.ladder import Ladder
from windlass.runtime.memory import megabytes
from windlass.runtime.running import STOPS, Running

if TYPE_CHECKING:
    from windlass.runtime.processes import Processes

logger = logging.getLogger("windlass")

MOST_STACKS = 20_000
MOVES = {kind.__name__: kind for kind in (Ended, Returned, Advanced)}
TIMES = ("enqueued_at", "available_at")

# Seconds until a job is tried again for which there was no process to be had.
LATER = 1.0


class Care:
    """Looks after one job from its fork to its outcome."""

    def __init__(
        self,
        processes: Processes,
        job: Claimed,
        running: Running,
        place: int,
        stacks: Any,
    ) -> None:
        self.processes, self.job, self.running = processes, job, running
        self.place, self.stacks = place, stacks
        self.executor = processes.executor
        self.said: dict[str, Any] = {}
        self.rest = b""

    def run(self) -> Outcome:
        """Run the job to its end, in the calling thread."""
        started = self.executor.clock()
        reason = refusal(self.job, now=started)
        if reason:
            return outcomes.discarded(self.job, reason, self.executor, started)
        wake, told = os.pipe()
        try:
            try:
                self.held = self.running.begin(self.job, lambda: _poke(told))
            except BaseException as error:  # noqa: BLE001 - a cancel; it is the outcome
                return outcomes.failed(self.job, error, self.executor, started)
            self.attendant = attendant_of(self.job)
            try:
                ours = self.processes.server.fork(self.stacks.fileno())
            except OSError as error:
                # Nobody is there to fork, so nothing has begun.
                self.said["refused"] = str(error)
                self.processes.server_died(None)
            else:
                with ours:
                    self._hand_in(ours)
                    self._look_after(ours, wake)
            with suppress(*STOPS):
                self.running.done(self.job)
            outcome = self._outcome(started)
            self.attendant.ended(outcome, self.said)
            return outcome
        finally:
            os.close(wake)
            os.close(told)

    def _hand_in(self, ours: socket.socket) -> None:
        values = self.job._asdict()
        values |= {name: values[name].isoformat() for name in TIMES}
        given = {"job": values, "place": self.place}
        # If nobody takes it, what comes back says why.
        with suppress(OSError):
            ours.sendall(json.dumps(given).encode() + b"\n")

    def _look_after(self, ours: socket.socket, wake: int) -> None:
        ladder: Ladder | None = None
        while "exit" not in self.said:
            now = time.monotonic()
            if self.held.stop is not None and not ladder and "pid" in self.said:
                ladder = self._begin_ladder(now)
            for number in ladder.due(now) if ladder else ():
                self.processes.server.kill(self.said["pid"], number)
                self.attendant.rung(number, self.said["pid"])
            pause = ladder.pause(now) if ladder else None
            ready, _, _ = select.select([ours.fileno(), wake], [], [], pause)
            if wake in ready:
                os.read(wake, 1024)
            if ours.fileno() in ready and not self._listen(ours):
                if "refused" not in self.said:
                    self.processes.server_died(self.said.get("pid"))
                break

    def _begin_ladder(self, now: float) -> Ladder:
        self.processes.flags[self.place] = 1
        assert self.held.stop is not None
        self.attendant.told(self.held.stop)
        times, wait = self.attendant.terms or (1, self.running.grace)
        if SHOW_STACKS is not None:
            self.processes.server.kill(self.said["pid"], SHOW_STACKS)
            now += STACKS_WITHIN
        return Ladder(now, terms=times, wait=wait)

    def _listen(self, ours: socket.socket) -> bool:
        try:
            data = ours.recv(1 << 16)
        except ConnectionError:
            data = b""
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            # Half a line is what a killed child leaves.
            with suppress(ValueError):
                self.said |= json.loads(line) if line else {}
        if "pid" in self.said and not self.said.get("noted"):
            self.said["noted"] = True
            self.running.ledger.child(self.held.slot, self.said["pid"])
        return bool(data)

    # What became of it

    def _outcome(self, started: float) -> Outcome:
        stop = self.held.stop
        if stop is not None and not self.said.get("recorded"):
            self._add_stacks(stop)
            outcome = outcomes.failed(self.job, stop, self.executor, started)
        elif "kind" in self.said:
            move = MOVES[self.said["kind"]](**self.said["move"])
            outcome = outcomes.adopted(self.job, move, self.executor, started)
            outcome = outcome._replace(recorded=self.said["recorded"])
        elif "refused" in self.said:
            logger.error("Job %s: no process for it: %s", self.job.id, self.said)
            move = lifecycle.snooze(self._attempt(started), LATER)
            outcome = outcomes.adopted(self.job, move, self.executor, started)
        else:
            outcome = self._crashed(started)
        return outcome._replace(move=self._with_usage(outcome.move, started))

    def _add_stacks(self, stop: BaseException) -> None:
        self.stacks.seek(0)
        shown = self.stacks.read(MOST_STACKS).decode(errors="replace")
        if shown:
            stop.add_note(f"In its process it was here:\n{shown}")

    def _crashed(self, started: float) -> Outcome:
        error = ProcessExitError(self._how())
        attempt = self._attempt(started)
        entry = attempts.describe(attempt, Reason.CRASHED, error)
        limit = self.processes.crash_limit
        move = lifecycle.crash(attempt, entry, crash_limit=limit)
        return outcomes.adopted(self.job, move, self.executor, started)

    def _how(self) -> str:
        if "exit" not in self.said:
            return "The process of this job died together with the one that forks."
        said = f"The process {self.said['pid']} of this job "
        said += f"{how_it_ended(self.said['exit'])} before the task had ended"
        memory = megabytes(self.said["memory"])
        if self.said["exit"] == -signal.SIGKILL:
            said += self.processes.memory.verdict()
        return f"{said}. It had used {memory} and {self.said['cpu']:g} s of CPU time."

    def _attempt(self, started: float) -> Attempt:
        return Attempt(self.job, self.executor.node, started, self.executor.clock())

    def _with_usage(self, move: Move, started: float) -> Move:
        if "exit" not in self.said or self.said.get("recorded"):
            return move
        usage = {
            "exit_code": self.said["exit"],
            "peak_memory": self.said["memory"],
            "cpu_seconds": self.said["cpu"],
        }
        if type(move) is Ended and move.state == "succeeded":
            entry = attempts.well_ended(self._attempt(started))
            return lifecycle.with_entry(move, self.job, entry | usage)
        history = json.loads(move.history or "null")
        if not history:
            return move
        history[-1] |= usage
        return move._replace(history=json.dumps(history))


def _poke(told: int) -> None:
    with suppress(OSError):
        os.write(told, b"!")
