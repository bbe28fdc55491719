"""
How a worker process stops.

What has started may end, what has not is handed back, and nothing more is claimed.
After ``shutdown_timeout``, or at once if forced, what still runs is taken from its
threads: a job that may run again is released, one that may not ends as interrupted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from windlass.exceptions import ProcessExitError
from windlass.jobs import attempts, lifecycle, outcomes
from windlass.jobs.lifecycle import Attempt
from windlass.jobs.policies import with_budget
from windlass.models import Reason
from windlass.runtime import handback
from windlass.runtime.child import RETIRED
from windlass.runtime.flusher import Report
from windlass.runtime.outage import LOST
from windlass.runtime.running import Held
from windlass.runtime.telling import tell_hooks

if TYPE_CHECKING:
    from windlass.runtime.worker import Worker

logger = logging.getLogger("windlass")

# Seconds for the last records, after what still ran was taken from its threads.
LAST_WRITES = 10.0


def finish(worker: Worker) -> None:
    """Hand back what has not started, wait for what has, record all of it."""
    worker.running.asked_to_stop = True
    said = {"node": worker.lease.node, "queues": worker.worker.queues}
    tell_hooks(worker.options, "worker", "stop", worker.name, **said)
    worker.processes.ask_all_to_stop()
    if worker.abandoned:
        # Others have it all by now, and would refuse what is written here.
        _leave(worker)
        worker.ledger.remove()
        return
    patience = worker.options.shutdown_timeout
    if worker.exit_code == RETIRED:
        # The supervisor sees to it, should this thread not get there.
        worker.watch.latest = time.monotonic() + patience + LAST_WRITES + 1.0
    handback.everything(worker)
    worker.threads.stop()
    _wait_for_records(worker, time.monotonic() + patience, interrupt=False)
    _wait_for_records(worker, time.monotonic() + LAST_WRITES, interrupt=True)
    _leave(worker)
    if worker.claimer.in_hand or worker.claim_in_doubt:
        # What the database did not take, or what does not end, is recovered with the
        # ledger's help.
        if worker.watch.told_to_stop():
            worker.ledger.retire()
            worker.exit_code = RETIRED
        worker.exit_code = worker.exit_code or 1
    else:
        worker.ledger.remove()
        worker.lease.stop()


def retire(worker: Worker, held: Held) -> None:
    """Stop, because the code of a job does not; only its process can end it."""
    if worker.exit_code != RETIRED:
        logger.error(
            "%s: job %s does not end although it was told to, so its process will. "
            "The others in it may end first.",
            worker.name,
            held.job.id,
        )
        worker.exit_code = RETIRED
        worker.stop("the code of a job does not end")


def _leave(worker: Worker) -> None:
    worker.watch.stop()
    worker.processes.close()
    worker.flusher.abandoned.set()
    worker.flusher.stop()
    if worker.loop is not None:
        worker.loop.stop()


def _wait_for_records(worker: Worker, deadline: float, *, interrupt: bool) -> None:
    while not worker.abandoned and (interrupt or not worker.forced):
        worker.attention.clear()
        # What was told to stop is no end before its code is dead; if that is with this
        # process, whoever recovers it records what it was told.
        stuck = worker.watch.told_to_stop() if interrupt else worker.watch.stuck()
        if worker.claimer.in_hand <= len(stuck) and not worker.claim_in_doubt:
            return
        if interrupt:
            # Each time: a job that had just been taken begins a moment later.
            _interrupt(worker, spared=stuck)
        try:
            handback.handed_on(worker)
            worker.settle_doubt()
            if worker.exchange is not None:
                worker.exchange.write()
            pause = 0.05
        except LOST as error:
            pause = worker.outage.began(error)
        if time.monotonic() >= deadline:
            return
        worker.attention.wait(min(pause, max(0.0, deadline - time.monotonic())))


def _interrupt(worker: Worker, *, spared: Sequence[Held]) -> None:
    taken = worker.running.take(spared)
    if any(held.wake is not None for held in taken):
        # Nobody else may get a job while its own process still runs.
        worker.processes.close()
    for held in taken:
        job = with_budget(held.job, worker.options.max_attempts)
        attempt = Attempt(job, worker.executor.node, held.started, time.time())
        if held.stop is not None:
            # Its own process is gone by now.
            outcome = outcomes.failed(
                held.job, held.stop, worker.executor, held.started
            )
            worker.deliver(Report(held.job, outcome.move, outcome, held.slot))
            continue
        error = ProcessExitError(
            f"The worker {worker.name} had to stop ({worker.stopping}) before this "
            "attempt ended, and the job may not run twice. Retry it if it may."
        )
        entry = attempts.describe(attempt, Reason.INTERRUPTED, error)
        move = lifecycle.interrupt(attempt, entry)
        worker.deliver(Report(held.job, move, slot=held.slot))
