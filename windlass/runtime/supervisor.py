"""
The supervisor: starts the parts of the runtime, replaces those that die, stops them.

It holds no database connection and no thread, so that each fork is a clean copy of a
warm parent. A child that died is replaced at once, later and later if it keeps
dying; what it held is recovered by a short-lived child that brings a connection of
its own. The first such child looks for what a runtime before this one left behind.
Signal handlers only set flags: a signal can arrive between any two lines.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.db import connections

from windlass import db
from windlass.conf import Options
from windlass.exceptions import ProcessExitError
from windlass.runtime import identity
from windlass.runtime.child import (
    ASKED,
    ENDED_WELL,
    RECYCLED,
    Part,
    fork,
    how_it_ended,
    on_signals,
    run_part,
)
from windlass.runtime.flag import Flag
from windlass.runtime.liveness import Liveness
from windlass.runtime.memory import OutOfMemory, megabytes, peak
from windlass.runtime.outage import Outage
from windlass.runtime.overdue import kill_if_overdue
from windlass.runtime.recovery import Recovery
from windlass.runtime.telling import tell_error, tell_hooks

logger = logging.getLogger("windlass")

# A child that lived this long was well, and is replaced without delay.
WELL_AFTER = 60.0
FIRST_DELAY, LONGEST_DELAY = 0.1, 30.0
# Beyond shutdown_timeout, for the last records to be written.
LAST_WRITES = 15.0
# Seconds between looks at what workers say of their deadlines.
LOOK_EVERY = 0.5
# A statement that a process sent before it died may still commit after its death
# was seen, so whoever recovers it looks again, this much later.
LOOK_AGAIN = 0.5
# Signals closer than this are one: a terminal signals all of a group, and a program
# around this one (a reloader, a task runner) hands on what it got itself.
AT_ONCE = 0.3


@dataclass
class Plan:
    """One child to keep running."""

    name: str
    make: Callable[[int], Part]
    ends_by_itself: bool = False
    pid: int | None = None
    # The node that this child will be, chosen before it is born.
    node: int = 0
    done: bool = False
    killed: bool = False
    started: float = 0.0
    delay: float = 0.0
    start_at: float = 0.0


@dataclass
class Rescue:
    """A child that recovers what dead ones held, and the plans that wait for it."""

    body: Callable[[Flag], None]
    waiting: Sequence[Plan]


class Supervisor:
    """Keeps one process running for each plan; obeys signals, those before it too."""

    def __init__(
        self, options: Options, plans: Sequence[Plan], noted: list[int] | None = None
    ) -> None:
        self.options, self.plans = options, plans
        self.signals = [] if noted is None else noted
        self.stop_asked = 0
        self.exit_code = 0
        self.asked_at = float("-inf")
        self.kill_at = float("inf")
        self.rescues: dict[int, Rescue] = {}
        self.memory = OutOfMemory()
        self.liveness = Liveness(options.liveness_file)

    def run(self) -> int:
        """Supervise until told to stop, or until all that ends by itself has ended."""
        connections.close_all()
        wake, told = os.pipe()
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        for number in (*ASKED, signal.SIGCHLD):
            signal.signal(number, self._note)
        try:
            self._obey()
            waiting = [plan for plan in self.plans if plan.ends_by_itself]
            self._rescue(self._recover_host, waiting)
            while not self._finished():
                self._start_due()
                if self._all_run():
                    self.liveness.touch()
                select.select([wake], [], [], self._until_next())
                with suppress(BlockingIOError):
                    os.set_blocking(wake, False)
                    os.read(wake, 1024)
                self._obey()
                for plan in self.plans:
                    if plan.pid and not plan.killed:
                        plan.killed = kill_if_overdue(plan.name, plan.pid, plan.node)
                self._reap()
        finally:
            signal.set_wakeup_fd(-1)
            os.close(wake)
            os.close(told)
            self.liveness.remove()
        return self.exit_code

    def _note(self, number: int, _frame: Any) -> None:
        self.signals.append(number)

    def _finished(self) -> bool:
        if any(plan.pid for plan in self.plans) or self.rescues:
            return False
        return self.stop_asked > 0

    def _until_next(self) -> float:
        now = time.monotonic()
        soonest = min(
            [*(p.start_at for p in self._to_start()), self.kill_at, now + LOOK_EVERY]
        )
        return max(0.0, soonest - now)

    # Starting

    def _to_start(self) -> list[Plan]:
        if self.stop_asked:
            return []
        waiting = [plan for rescue in self.rescues.values() for plan in rescue.waiting]
        return [p for p in self.plans if not (p.pid or p.done or p in waiting)]

    def _start_due(self) -> None:
        for plan in self._to_start():
            if time.monotonic() >= plan.start_at:
                plan.started, plan.killed = time.monotonic(), False
                node = plan.node = identity.new_node_id()
                plan.pid = fork(
                    lambda plan=plan, node=node: run_part(plan.make(node))  # type: ignore[misc]
                )

    def _all_run(self) -> bool:
        # One that keeps dying counts again once it has lived as long as it had to
        # wait; or else each start, doomed or not, would look like health.
        now = time.monotonic()
        running = [plan for plan in self.plans if plan.pid]
        return not self._to_start() and all(
            now - plan.started >= plan.delay for plan in running
        )

    def _rescue(self, body: Callable[[Flag], None], waiting: Sequence[Plan]) -> None:
        pid = fork(lambda: self._run_rescue(body))
        self.rescues[pid] = Rescue(body, waiting)

    # Signals

    def _obey(self) -> None:
        signals, self.signals = self.signals, []
        now = time.monotonic()
        for number in signals:
            if number == signal.SIGQUIT:
                self._stop(force=True)
            elif number in ASKED and now - self.asked_at > AT_ONCE:
                self.asked_at = now
                self._stop(force=self.stop_asked > 0)
        if time.monotonic() >= self.kill_at:
            logger.error("Some processes did not end in time and are killed.")
            self.exit_code = 1
            # Once more later, for who recovers what these held.
            self.kill_at = time.monotonic() + LAST_WRITES
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
        if self.stop_asked == 1:
            tell_hooks(self.options, "supervisor", "stop", "supervisor")
            connections.close_all()

    def _signal_all(self, number: int) -> None:
        for pid in [*(plan.pid for plan in self.plans), *self.rescues]:
            if pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)

    # Ends

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            # As process 1 of a container, orphans of others come here too.
            code = os.waitstatus_to_exitcode(status)
            rescue = self.rescues.pop(pid, None)
            # An error was logged and is left to the janitor; a kill calls for another.
            if rescue and code < 0 and not self.stop_asked:
                self._rescue(rescue.body, rescue.waiting)
            for plan in self.plans:
                if plan.pid == pid:
                    self._ended(plan, code, peak(usage))

    def _ended(self, plan: Plan, code: int, memory: int) -> None:
        pid, plan.pid = plan.pid, None
        assert pid is not None
        if code in (ENDED_WELL, RECYCLED) and (
            self.stop_asked or (plan.ends_by_itself and code == ENDED_WELL)
        ):
            plan.done = True
            self._stop_if_all_ended()
            return
        if code == RECYCLED and not self.stop_asked:
            plan.delay, plan.start_at = 0.0, time.monotonic()
            return
        how = how_it_ended(code)
        if code == -signal.SIGKILL:
            how += f"{self.memory.verdict()} (it had used up to {megabytes(memory)})"
        lived = time.monotonic() - plan.started
        plan.delay = (
            0.0
            if lived > WELL_AFTER
            else min(LONGEST_DELAY, max(FIRST_DELAY, 2 * plan.delay))
        )
        plan.start_at = time.monotonic() + plan.delay
        if code not in (ENDED_WELL, RECYCLED):
            logger.error("%s (process %s) %s; replacing it.", plan.name, pid, how)
            # A worker that ends when nothing is left must see what is given back.
            waiting = [plan] if plan.ends_by_itself else []
            self._rescue(lambda told: self._recover_child(pid, how, told), waiting)

    def _stop_if_all_ended(self) -> None:
        ending = [plan for plan in self.plans if plan.ends_by_itself]
        if ending and all(plan.done for plan in ending) and not self.stop_asked:
            self._stop(force=False)

    # In a child: recovery

    def _run_rescue(self, body: Callable[[Flag], None]) -> int:
        told = Flag()
        if self.stop_asked:
            told.set()
        on_signals(told.set, told.set)
        body(told)
        return ENDED_WELL

    def _recover_host(self, told: Flag) -> None:
        self._recover(Recovery.dead_children, told)

    def _recover_child(self, pid: int, how: str, told: Flag) -> None:
        # Here rather than in the parent, which is to stay without threads.
        tell_error(self.options, ProcessExitError(f"Process {pid} {how}."))
        self._recover(lambda recovery: recovery.child(pid, how), told)

    def _recover(self, find: Callable[[Recovery], object], told: Flag) -> None:
        recovery = Recovery(self.options)
        if self._persist(lambda: find(recovery), told) and recovery.recovered:
            told.wait(LOOK_AGAIN)
            self._persist(recovery.look_again, told)

    def _persist(self, action: Callable[[], object], told: Flag) -> bool:
        outage = Outage("recovery", db.dialect(self.options.database_alias))
        return outage.persist(action, wait=told.wait)
