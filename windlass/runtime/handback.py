"""
Giving back what a worker claimed and has not started, so that others can take it.

All of it when the worker stops, and what waits behind slow jobs now and then.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from windlass.db import Claimed
from windlass.jobs import lifecycle
from windlass.runtime.flusher import Report

if TYPE_CHECKING:
    from windlass.runtime.worker import Worker

# Jobs that no thread has begun in this time go back to where others can take them.
STUCK = 0.2


def everything(worker: Worker) -> None:
    """Give back all that has not started."""
    handed_on(worker)
    _from_threads(worker)
    _from_loop(worker)


def handed_on(worker: Worker) -> None:
    """Give back what came with a slot, and has not started."""
    _from_chains(worker, since=time.monotonic())
    jobs = worker.handover.take()
    worker.claimer.divide(jobs, [])
    _give_back(worker, jobs, is_async=False)


def if_stuck(worker: Worker) -> None:
    """Give back what waits for threads, or for the loop, that have long been busy."""
    stuck = time.monotonic() - STUCK
    _from_chains(worker, since=stuck)
    if worker.handed_out_at < stuck:
        if worker.threads.freed_at < stuck and _from_threads(worker):
            worker.stuck_at = time.monotonic()
        if worker.loop and worker.loop.freed_at < stuck and _from_loop(worker):
            worker.loop_stuck_at = time.monotonic()


def _from_chains(worker: Worker, *, since: float) -> None:
    for behind in worker.handover.stop_waiting(since=since):
        worker.claimer.divide(behind.jobs, [])
        for job in behind.jobs:
            # The slot is in the name of the last, and the first one needs it still.
            keeper = behind.ahead if job is behind.jobs[-1] else None
            worker.deliver(Report(job, lifecycle.release(job), keeper=keeper))


def _from_threads(worker: Worker) -> int:
    return _give_back(worker, worker.threads.unstarted(), is_async=False)


def _from_loop(worker: Worker) -> int:
    jobs = worker.loop.unstarted() if worker.loop else []
    return _give_back(worker, jobs, is_async=True)


def _give_back(worker: Worker, jobs: Sequence[Claimed], *, is_async: bool) -> int:
    if jobs:
        worker.claimer.expect_async = False
    if worker.budget is not None:
        worker.budget.give_back(len(jobs))
    for job in jobs:
        worker.deliver(Report(job, lifecycle.release(job), is_async=is_async))
    return len(jobs)
