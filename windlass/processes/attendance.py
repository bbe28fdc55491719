"""
Going along with one attempt of a process, for whichever worker supervises it.

It listens to the run, says every rung of the ladder in its log, and moves the status to
what the run could not say itself. Its worker tells it when the process is dead.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, InterfaceError, connections
from django.db.models import Q

from windlass.processes import conf, limiting, moves
from windlass.processes.collector import Collector
from windlass.processes.lines import SYSTEM, line, target_of
from windlass.processes.listening import Listener
from windlass.processes.sandbox import bundles
from windlass.processes.sandbox.bundles import Bundle
from windlass.runtime.child import how_it_ended
from windlass.runtime.memory import megabytes

if TYPE_CHECKING:
    from windlass.processes.models import BaseProcess

# Seconds for which an end is told to a database that is away; later a sweep tells it.
PATIENCE = 20.0


class Attendance:
    """Listens from when it is made, and until ``end``."""

    def __init__(
        self,
        process: BaseProcess,
        path: str,
        *,
        attempt: int,
        asked_to_end: Callable[[], None] | None = None,
    ) -> None:
        self.process, self.path = process, path
        self.rungs: list[int] = []
        self.collector = Collector(target_of(process)._replace(attempt=attempt))
        self.listener = Listener(
            path,
            self.collector,
            is_wary=conf.options().executor == "sandbox",
            asked_to_end=asked_to_end,
        )
        self.collector.start()
        self.listener.start()

    def told(self, *, timed_out: bool) -> None:
        """Say in the log why the run is to end."""
        why = moves.too_long(self.process) if timed_out else "It was cancelled."
        self.say(f"{why} It is being ended.")

    def rung(self, number: int, pid: int) -> None:
        """Say in the log which signal was sent."""
        self.rungs.append(number)
        terms, most = self.rungs.count(signal.SIGTERM), conf.options().kill_term_retries
        counted = f" ({terms} of {most})" if number == signal.SIGTERM else ""
        self.say(f"{signal.Signals(number).name}{counted} to process group {pid}.")

    def say(self, message: str, *, level: str = "warning") -> None:
        """Add a line of the supervision to the log."""
        self.collector.log(line(message, level=level, stream=SYSTEM))

    def end(
        self,
        guard: Q,
        status: str,
        said: dict[str, Any],
        *,
        error: str = "",
        traceback: str = "",
    ) -> bool:
        """
        Store the last lines, then move the process if the guard holds: it is dead.

        ``said`` is what the system said of its process. False if somebody else, the run
        itself mostly, has moved it.
        """
        options = conf.options()
        if options.executor == "sandbox":
            # Its launcher was killed, or it is gone already.
            Bundle.of(options, bundles.name_of(self.path)).remove()
        if self.rungs:
            escalated = "with" if signal.SIGKILL in self.rungs else "without"
            count = f"{len(self.rungs)} signal{'' if len(self.rungs) == 1 else 's'}"
            self.say(f"It ended after {count}, {escalated} SIGKILL; {_used(said)}.")
        if status in (moves.FAILED, moves.TIMED_OUT) and not self._has_ended(guard):
            self.say(error, level="error")
        self.listener.close()
        self.collector.close()
        try:
            return self._move(guard, status, error, traceback)
        finally:
            let_go(self.process._windlass_database())

    def _has_ended(self, guard: Q) -> bool:
        with suppress(DatabaseError, InterfaceError):
            return not moves.rows(self.process).filter(guard).exists()
        return False

    def _move(self, guard: Q, status: str, error: str, traceback: str) -> bool:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return moves.end(
                    self.process, guard, status, error=error, traceback=traceback
                )
            except (DatabaseError, InterfaceError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)


def let_go(database: str) -> None:
    """Close this thread's connection, which may have nothing to ask for hours."""
    connections[database].close()


def crashed(said: dict[str, Any]) -> str:
    """What is said of a process that died, and which limit it had reached."""
    how = how_it_ended(said["exit"]) if "exit" in said else "is gone"
    return f"Its process {how}; {_used(said)}.{limiting.cause(said, conf.options())}"


def _used(said: dict[str, Any]) -> str:
    if "exit" not in said:
        return "nobody saw how"
    return f"it had used {megabytes(said['memory'])} and {said['cpu']:g} s of CPU time"
