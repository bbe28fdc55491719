"""
How a worker process stops.

What has started may end, what has not is handed back, and nothing more is claimed.
After ``shutdown_timeout``, or at once if forced, what still runs is taken from its
threads: a job that may run again is released, one that may not ends as interrupted.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from windlass.exceptions import ProcessExitError
from windlass.jobs import attempts, lifecycle
from windlass.jobs.lifecycle import Attempt
from windlass.models import Reason
from windlass.runtime.flusher import Report
from windlass.runtime.outage import LOST

if TYPE_CHECKING:
    from windlass.runtime.worker import Worker

# Seconds for the last records, after what still ran was taken from its threads.
LAST_WRITES = 10.0


def finish(worker: Worker) -> None:
    """Hand back what has not started, wait for what has, record all of it."""
    worker.hand_back()
    worker.threads.stop()
    deadline = time.monotonic() + worker.options.shutdown_timeout
    _wait_for_records(worker, deadline, interrupt=False)
    deadline = time.monotonic() + LAST_WRITES
    _wait_for_records(worker, deadline, interrupt=True)
    worker.flusher.abandoned.set()
    worker.flusher.stop()
    if worker.loop is not None:
        worker.loop.stop()
    if worker.claimer.in_hand:
        # What the database did not take is recovered with the ledger's help.
        worker.exit_code = 1
    else:
        worker.ledger.remove()
        worker.lease.stop()


def _wait_for_records(worker: Worker, deadline: float, *, interrupt: bool) -> None:
    while worker.claimer.in_hand and (interrupt or not worker.forced):
        worker.attention.clear()
        if interrupt:
            # Each time: a job that had just been taken begins a moment later.
            _interrupt(worker)
        try:
            if worker.exchange is not None:
                worker.exchange.write()
            pause = 0.05
        except LOST as error:
            pause = worker.outage.began(error)
        if time.monotonic() >= deadline:
            return
        worker.attention.wait(min(pause, max(0.0, deadline - time.monotonic())))


def _interrupt(worker: Worker) -> None:
    for job, started, slot in worker.running.interrupt():
        attempt = Attempt(job, worker.executor.node, started, time.time())
        error = ProcessExitError(
            f"The worker {worker.name} had to stop ({worker.stopping}) before this "
            "attempt ended, and the job may not run twice. Retry it if it may."
        )
        entry = attempts.describe(attempt, Reason.INTERRUPTED, error)
        move = lifecycle.interrupt(attempt, entry)
        worker.deliver(Report(job, move, slot=slot))
