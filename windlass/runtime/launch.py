"""
From options to running parts: which processes, or which threads of one process.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

from django.apps import apps
from django.db import connections
from django.utils.module_loading import module_has_submodule

from windlass.conf import Options, WorkerOptions
from windlass.exceptions import ConfigurationError
from windlass.runtime import identity
from windlass.runtime.budget import Budget
from windlass.runtime.child import RECYCLED, RETIRED, Part
from windlass.runtime.dispatcher import Dispatcher
from windlass.runtime.liveness import Liveness
from windlass.runtime.own_threads import lend_thread, own_thread
from windlass.runtime.pidfile import Pidfile
from windlass.runtime.stop_signals import StopSignals
from windlass.runtime.supervisor import AT_ONCE, Plan, Supervisor
from windlass.runtime.telling import Told, tell_hooks, told
from windlass.runtime.worker import Worker

logger = logging.getLogger("windlass")


@dataclass(frozen=True)
class Topology:
    """Which parts of the runtime to start, and when they end by themselves."""

    work: bool = True
    dispatch: bool = True
    drain: bool = False
    max_jobs: int | None = None
    recurring: bool = True

    def __post_init__(self) -> None:
        if not (self.work or self.dispatch):
            raise ConfigurationError(
                "--only-work and --only-dispatch leave nothing to run; give only one."
            )
        if not self.work and (self.drain or self.max_jobs is not None):
            raise ConfigurationError(
                "--drain and --max-jobs are about workers, and --only-dispatch starts "
                "none."
            )


def launch(options: Options, topology: Topology, signals: StopSignals) -> int:
    """Run the runtime in this process until it ends; give back the exit code."""
    import_tasks()
    noted = signals.defer()
    own_thread(options)
    try:
        with (
            Pidfile(options.supervisor_pidfile),
            told(options, "supervisor", "supervisor"),
        ):
            return _launch(options, topology, noted)
    finally:
        # Of another program, perhaps, that goes on.
        lend_thread()


def _launch(options: Options, topology: Topology, noted: list[int]) -> int:
    if options.mode == "async" or not hasattr(os, "fork"):
        plans = _plans(options, topology, supervisor_pid=None)
        liveness = Liveness(options.liveness_file)
        try:
            return _run_in_threads(plans, liveness, options, noted)
        finally:
            liveness.remove()
    plans = _plans(options, topology, supervisor_pid=os.getpid())
    return Supervisor(options, plans, noted).run()


def import_tasks() -> None:
    """Import each app's ``tasks`` module, so that children are born warm."""
    for app in apps.get_app_configs():
        if app.module is not None and module_has_submodule(app.module, "tasks"):
            try:
                import_module(f"{app.name}.tasks")
            except (Exception, SystemExit):
                # Its jobs will be refused one by one, with the same error.
                logger.exception("%s.tasks cannot be imported.", app.name)


def _plans(
    options: Options, topology: Topology, *, supervisor_pid: int | None
) -> list[Plan]:
    plans: list[Plan] = []
    budget = None if topology.max_jobs is None else Budget(topology.max_jobs)
    ends = topology.drain or budget is not None
    for place, worker in enumerate(options.workers if topology.work else ()):
        for number in range(worker.processes):
            name = f"worker-{place + 1}.{number + 1}"
            make = partial(
                _worker,
                options,
                worker,
                name=name,
                supervisor_pid=supervisor_pid,
                drain=topology.drain,
                budget=budget,
            )
            plans.append(Plan(name, make, ends_by_itself=ends))
    if topology.dispatch:
        make_dispatcher: Callable[[int], Part] = partial(
            _dispatcher,
            options,
            name="dispatcher",
            supervisor_pid=supervisor_pid,
            recurring=topology.recurring,
        )
        plans.append(Plan("dispatcher", make_dispatcher))
    return plans


def _worker(
    options: Options, worker: WorkerOptions, node: int, *, name: str, **rest: Any
) -> Part:
    part = Worker(options, worker, node=node, name=name, **rest)
    return Told(part, options, "worker", name, node=node, queues=worker.queues)


def _dispatcher(options: Options, node: int, *, name: str, **rest: Any) -> Part:
    part = Dispatcher(options, node=node, name=name, **rest)
    return Told(part, options, "dispatcher", name, node=node)


def _run_in_threads(
    plans: list[Plan], liveness: Liveness, options: Options, noted: list[int]
) -> int:
    """Run every part as a thread of this process, which nobody supervises."""
    connections.close_all()
    parts = [(plan, plan.make(identity.new_node_id())) for plan in plans]
    codes: dict[str, int] = {}
    ended = threading.Event()

    def run(plan: Plan, part: Part) -> None:
        try:
            codes[plan.name] = part.run()
        except Exception:
            logger.exception("%s ended with an error.", plan.name)
            codes[plan.name] = 1
        if codes[plan.name] or _all_ended(plans, codes):
            for _plan, other in parts:
                other.stop("another part ended")
        ended.set()

    asked = _stop_on_signals([part for _plan, part in parts], noted)
    for plan, part in parts:
        threading.Thread(
            target=run, args=(plan, part), name=plan.name, daemon=True
        ).start()
    said_stop = False
    while len(codes) < len(plans):
        liveness.touch()
        ended.wait(1.0)
        ended.clear()
        if not said_stop and (asked or codes):
            said_stop = True
            tell_hooks(options, "supervisor", "stop", "supervisor")
    if RETIRED in codes.values():
        # A thread that does not end would keep the interpreter from ending.
        logging.shutdown()
        os._exit(1)
    return max(0 if code == RECYCLED else code for code in codes.values())


def _stop_on_signals(parts: list[Part], noted: list[int]) -> list[float]:
    asked_at: list[float] = []

    def stop(number: int, _frame: Any) -> None:
        now = time.monotonic()
        if number == signal.SIGQUIT or (asked_at and now - asked_at[0] > AT_ONCE):
            for part in parts:
                part.force()
        elif not asked_at:
            asked_at.append(now)
            for part in parts:
                part.stop("the process was asked to stop")

    _on_signals(stop)
    for number in noted:
        stop(number, None)
    return asked_at


def _on_signals(stop: Callable[[int, Any], None]) -> None:
    # Embedded in a thread of another program, the signals are that program's.
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, stop)


def _all_ended(plans: list[Plan], codes: dict[str, int]) -> bool:
    ending = [plan.name for plan in plans if plan.ends_by_itself]
    return bool(ending) and all(name in codes for name in ending)
