"""
The collector of a run: takes its lines from whoever has some, and stores them.

One thread reads sockets and pipes and never waits for the database; another numbers
and writes. A line is stored at once if it is the first for a while, else with others:
every 200 ms, or as soon as 500 wait. What the database does not take waits here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from itertools import islice
from typing import Any

from django.db import DatabaseError, InterfaceError

from windlass.processes import conf
from windlass.processes.lines import SYSTEM, Line, Target, line
from windlass.processes.writing import Gone, Writer

logger = logging.getLogger("windlass")

EVERY, ENOUGH, BLOCK = 0.2, 500, 5_000
# So many lines wait at most while the database takes some, and while it takes none.
HIGH, MOST = 20_000, 200_000
# Seconds without a success after which the database counts as taking none; between
# tries; until an idle connection is closed; and for the last lines at the end.
STUCK, AGAIN, IDLE, PATIENCE = 5.0, 0.2, 5.0, 10.0


class Collector:
    """Stores the lines of one run, from any thread."""

    def __init__(self, target: Target) -> None:
        self.writer = Writer(target, most=conf.options().log_limit)
        self.waiting: deque[Line] = deque()
        self.said: dict[str, Any] | None = None
        self.changed = threading.Condition()
        self.taken = self.stored = self.dropped = 0
        self.is_urgent = self.is_closing = self.is_closed = False
        self.succeeded_at = time.monotonic()
        self.thread = threading.Thread(
            target=self._write, name="windlass-log", daemon=True
        )

    def start(self) -> None:
        """Begin to store."""
        self.thread.start()

    # Sink

    def log(self, line: Line) -> None:
        """Take a line."""
        self.take([line])

    def take(self, lines: list[Line]) -> None:
        """Take lines; wait while the database is behind, unless it is stuck."""
        with self.changed:
            while len(self.waiting) > HIGH and not self._is_stuck():
                self.changed.wait(0.1)
            if len(self.waiting) >= MOST:
                # What the supervision says is little, and is not to be missed.
                kept = [line for line in lines if line.stream == SYSTEM]
                self.dropped += len(lines) - len(kept)
                lines = kept
            was_idle = not self.waiting
            self.waiting.extend(lines)
            self.taken += len(lines)
            if was_idle or len(self.waiting) >= ENOUGH:
                self.changed.notify_all()

    def progress(self, said: dict[str, Any]) -> None:
        """Take what replaces the progress said before."""
        with self.changed:
            was_idle, self.said = self.said is None, said
            if was_idle:
                self.changed.notify_all()

    def flush(self, timeout: float = PATIENCE) -> bool:
        """Wait until what was taken so far is stored; False if it takes longer."""
        with self.changed:
            wanted, self.is_urgent = self.taken, True
            self.changed.notify_all()
            return self.changed.wait_for(
                lambda: self.is_closed or (self.stored >= wanted and self.said is None),
                timeout,
            )

    def close(self, timeout: float = PATIENCE) -> bool:
        """Store what is left, and end."""
        done = self.flush(timeout)
        with self.changed:
            self.is_closing = True
            self.changed.notify_all()
        self.thread.join(timeout)
        return done

    def _is_stuck(self) -> bool:
        return self.is_closed or time.monotonic() > self.succeeded_at + STUCK

    # The thread that writes

    def _write(self) -> None:
        wrote_at = 0.0
        try:
            while self._wait_for_a_reason(wrote_at):
                wrote_at = time.monotonic()
                pause = self._write_some()
                if not pause:
                    self._leave_out()
                if pause:
                    with self.changed:
                        if self.is_closing:
                            return
                        self.changed.wait(pause)
            self._leave_out(exactly=True)
        except Gone:
            logger.debug("A process was deleted while it ran; its log goes with it.")
        except Exception:
            logger.exception("The log of a process cannot be stored any more.")
        finally:
            with self.changed:
                self.is_closed = True
                self.waiting.clear()
                self.changed.notify_all()
            self.writer.close()

    def _wait_for_a_reason(self, wrote_at: float) -> bool:
        """Wait for something to write, together with others; False at the end."""
        with self.changed:
            while not (self.waiting or self.said is not None):
                self.is_urgent = False
                if self.is_closing:
                    return False
                if not self.changed.wait(IDLE):
                    self.writer.close()
                # Nothing was to be stored, so nothing was refused.
                self.succeeded_at = time.monotonic()
            while not (self.is_urgent or self.is_closing):
                left = wrote_at + EVERY - time.monotonic()
                if left <= 0 or len(self.waiting) >= ENOUGH:
                    break
                self.changed.wait(left)
            return True

    def _write_some(self) -> float:
        with self.changed:
            block = list(islice(self.waiting, BLOCK))
            said, dropped = self.said, self.dropped
        try:
            if dropped:
                block.append(_note(dropped))
            if block:
                self.writer.write(block)
            if said is not None and not self._progress(said):
                said = None
        except (DatabaseError, InterfaceError) as error:
            logger.debug("The log of a process waits for its database: %s", error)
            self.writer.close()
            return AGAIN
        with self.changed:
            for _each in range(len(block) - bool(dropped)):
                self.waiting.popleft()
            self.stored += len(block) - bool(dropped)
            self.dropped -= dropped
            if said is self.said or self.is_urgent:
                self.said = None
            self.succeeded_at = time.monotonic()
            self.changed.notify_all()
        return 0.0

    def _leave_out(self, *, exactly: bool = False) -> None:
        try:
            self.writer.leave_out(exactly=exactly)
        except (DatabaseError, InterfaceError) as error:
            logger.debug("The log of a process waits for its database: %s", error)
            self.writer.close()

    def _progress(self, said: dict[str, Any]) -> bool:
        return self.writer.progress(said)


def _note(dropped: int) -> Line:
    said = f"{dropped:,} lines are missing here: the database took none for too long."
    return line(said, level="warning", stream=SYSTEM)
