"""
The supervisor: starts the parts of the runtime, replaces those that die, stops them.

It holds no database connection and no thread, so that each fork is a clean copy of a
warm parent. A child that died is replaced at once, later and later if it keeps
dying; what it held is recovered by a short-lived child that brings a connection of
its own. Signal handlers only set flags: a signal can arrive between any two lines.
"""

from __future__ import annotations

import ctypes
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from django.db import connections

from windlass import db
from windlass.conf import Options
from windlass.runtime.outage import Outage
from windlass.runtime.recovery import Recovery

logger = logging.getLogger("windlass")

# A child that lived this long was well, and is replaced without delay.
WELL_AFTER = 60.0
FIRST_DELAY, LONGEST_DELAY = 0.1, 30.0
# Beyond shutdown_timeout, for the last records to be written.
LAST_WRITES = 15.0


class Part(Protocol):
    """What runs in a child: a worker or the dispatcher."""

    def run(self) -> int: ...

    def stop(self, why: str) -> None: ...

    def force(self) -> None: ...


@dataclass
class Plan:
    """One child to keep running."""

    name: str
    make: Callable[[], Part]
    ends_by_itself: bool = False
    pid: int | None = None
    done: bool = False
    started: float = 0.0
    delay: float = 0.0
    start_at: float = 0.0


class Supervisor:
    """Keeps one process running for each plan."""

    def __init__(self, options: Options, plans: Sequence[Plan]) -> None:
        self.options, self.plans = options, plans
        self.signals: list[int] = []
        self.stop_asked = 0
        self.kill_at = float("inf")
        # Children that recover what a dead one held, and the plan that waits for it.
        self.recoveries: dict[int, Plan | None] = {}

    def run(self) -> int:
        """Supervise until told to stop, or until all that ends by itself has ended."""
        connections.close_all()
        wake, told = os.pipe()
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGCHLD):
            signal.signal(number, self._note)
        try:
            while not self._finished():
                self._start_due()
                select.select([wake], [], [], self._until_next())
                with suppress(BlockingIOError):
                    os.set_blocking(wake, False)
                    os.read(wake, 1024)
                self._obey()
                self._reap()
        finally:
            signal.set_wakeup_fd(-1)
            os.close(wake)
            os.close(told)
        return 0

    def _note(self, number: int, _frame: Any) -> None:
        self.signals.append(number)

    def _finished(self) -> bool:
        if any(plan.pid for plan in self.plans) or self.recoveries:
            return False
        return self.stop_asked > 0

    def _until_next(self) -> float:
        now = time.monotonic()
        waiting = [p.start_at for p in self.plans if not p.pid and not p.done]
        soonest = min([*waiting, self.kill_at, now + 1.0])
        return max(0.0, soonest - now)

    # Starting

    def _start_due(self) -> None:
        if self.stop_asked:
            return
        waited_for = list(self.recoveries.values())
        for plan in self.plans:
            due = time.monotonic() >= plan.start_at and plan not in waited_for
            if not plan.pid and not plan.done and due:
                plan.started = time.monotonic()
                plan.pid = self._fork(lambda plan=plan: _run_part(plan.make()))  # type: ignore[misc]

    def _fork(self, body: Callable[[], int]) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            # Ctrl-C reaches the whole group; the supervisor alone acts on it.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            _die_with_parent(parent)
            code = body()
        except BaseException:
            logger.exception("Process %s ended with an error.", os.getpid())
        finally:
            logging.shutdown()
            # Never unwind into the parent's copy of this stack.
            os._exit(code)

    # Signals

    def _obey(self) -> None:
        signals, self.signals = self.signals, []
        for number in signals:
            if number == signal.SIGQUIT:
                self._stop(force=True)
            elif number in (signal.SIGTERM, signal.SIGINT):
                self._stop(force=self.stop_asked > 0)
        if time.monotonic() >= self.kill_at:
            logger.error("Some processes did not end in time and are killed.")
            self.kill_at = float("inf")
            self._signal_all(signal.SIGKILL)

    def _stop(self, *, force: bool) -> None:
        self.stop_asked += 1
        if force:
            logger.warning("Stopping now: what still runs is handed back.")
            self.kill_at = time.monotonic() + LAST_WRITES
            self._signal_all(signal.SIGQUIT)
        else:
            logger.info("Stopping: what has started may end first.")
            patience = self.options.shutdown_timeout + LAST_WRITES
            self.kill_at = time.monotonic() + patience
            self._signal_all(signal.SIGTERM)

    def _signal_all(self, number: int) -> None:
        for pid in [*(plan.pid for plan in self.plans), *self.recoveries]:
            if pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)

    # Ends

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            # As process 1 of a container, orphans of others come here too.
            if pid in self.recoveries:
                del self.recoveries[pid]
            for plan in self.plans:
                if plan.pid == pid:
                    self._ended(plan, os.waitstatus_to_exitcode(status))

    def _ended(self, plan: Plan, code: int) -> None:
        pid, plan.pid = plan.pid, None
        assert pid is not None
        if code == 0 and (plan.ends_by_itself or self.stop_asked):
            plan.done = True
            self._stop_if_all_ended()
            return
        how = how_it_ended(code)
        lived = time.monotonic() - plan.started
        plan.delay = (
            0.0
            if lived > WELL_AFTER
            else min(LONGEST_DELAY, max(FIRST_DELAY, 2 * plan.delay))
        )
        plan.start_at = time.monotonic() + plan.delay
        if code != 0:
            logger.error("%s (process %s) %s; replacing it.", plan.name, pid, how)
            recovery = self._fork(lambda: self._recover(pid, how))
            # A worker that ends when nothing is left must see what is given back.
            self.recoveries[recovery] = plan if plan.ends_by_itself else None

    def _stop_if_all_ended(self) -> None:
        ending = [plan for plan in self.plans if plan.ends_by_itself]
        if ending and all(plan.done for plan in ending) and not self.stop_asked:
            self._stop(force=False)

    def _recover(self, pid: int, how: str) -> int:
        told = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: told.set())
        signal.signal(signal.SIGQUIT, lambda *_: told.set())
        outage = Outage("recovery", db.dialect(self.options.database_alias))
        recovery = Recovery(self.options)
        outage.persist(lambda: _ignore(recovery.child(pid, how)), wait=told.wait)
        return 0


def how_it_ended(code: int) -> str:
    """An exit code in words; negative ones are signals."""
    if code < 0:
        return f"was killed by signal {-code} ({signal.Signals(-code).name})"
    return f"exited with status {code}"


def _run_part(part: Part) -> int:
    signal.signal(signal.SIGTERM, lambda *_: part.stop("its supervisor asked"))
    signal.signal(signal.SIGQUIT, lambda *_: part.force())
    return part.run()


def _die_with_parent(parent: int) -> None:
    """Ask Linux for SIGTERM when the supervisor dies; elsewhere the lease notices."""
    with suppress(OSError, AttributeError):
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(0)


def _ignore(_rescued: int) -> None:
    return None
