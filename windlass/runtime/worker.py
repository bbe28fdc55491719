"""
One worker process: claim, run, record, until told to stop.

The main thread claims. Threads and an event loop run tasks, the flusher records
their outcomes, and a heartbeat thread keeps the lease and listens. On a database
with one writer, the main thread records too, in the transaction of its next claim.
How it stops is in ``shutdown``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from windlass import db
from windlass.conf import Options, WorkerOptions
from windlass.db import Claimed
from windlass.jobs import lifecycle, resolving
from windlass.jobs.execution import Executor
from windlass.models import Node
from windlass.runtime.budget import Budget
from windlass.runtime.claimer import BOUND, Claimer
from windlass.runtime.exchange import Exchange
from windlass.runtime.executors import EventLoop, Running, Threads
from windlass.runtime.flag import Flag
from windlass.runtime.flusher import Flusher, Report
from windlass.runtime.ledger import Ledger
from windlass.runtime.node import Lease
from windlass.runtime.outage import LOST, Outage
from windlass.runtime.shutdown import finish
from windlass.tasks_api import task_backends

logger = logging.getLogger("windlass")

# After the last job or wake-up, look again this often for this long: producers
# notify at most once in 10 ms, so a job may come without a notification of its own.
SOON, SOON_FOR = 0.004, 0.05
# Jobs that no thread has begun in this time go back to where others can take them.
STUCK = 0.2
LOOP_STUCK = 1.0


class Worker:
    """The parts of one worker process, and the loop that feeds them."""

    def __init__(
        self,
        options: Options,
        worker: WorkerOptions,
        *,
        name: str,
        supervisor_pid: int | None,
        drain: bool = False,
        budget: Budget | None = None,
    ) -> None:
        self.options, self.worker, self.name = options, worker, name
        self.drain, self.budget = drain, budget
        self.attention = Flag()
        self.stopping: str | None = None
        self.forced = False
        self.exit_code = 0
        self.db = db.dialect(options.database_alias, owned=True)
        self.outage = Outage(name, self.db)
        self.lease = Lease(
            options,
            kind=Node.Kind.WORKER,
            name=name,
            supervisor_pid=supervisor_pid,
            details={
                "queues": list(worker.queues),
                "threads": worker.threads,
                "async_concurrency": worker.async_concurrency,
            },
            wake=self._wake,
            lost=self._lost,
        )

    # From signal handlers and other threads: only flags, and a nudge

    def stop(self, why: str) -> None:
        """Ask for a graceful stop; to ask again changes nothing."""
        self.stopping = self.stopping or why
        self.attention.set()

    def force(self) -> None:
        """Ask for a stop that waits for nothing."""
        self.stopping, self.forced = self.stopping or "forced", True
        self.attention.set()

    def _wake(self) -> None:
        self._soon_until = time.monotonic() + SOON_FOR
        self.attention.set()

    def _lost(self, why: str) -> None:
        if not self.stopping:
            logger.error("%s: stopping, because %s.", self.name, why)
            self.exit_code = 1
            self.stop(why)

    # The loop

    def run(self) -> int:
        """Work until told to stop; give back the exit code."""
        if not self.lease.register(wait=self._wait_or_stop):
            return 0
        self._build()
        try:
            while not self.stopping:
                try:
                    self._turn()
                    self.outage.ended()
                except LOST as error:
                    self._claim_in_doubt = True
                    self.threads.outages += 1
                    self._wait_or_stop(self.outage.began(error))
            finish(self)
        finally:
            self.db.close()
        return self.exit_code

    def _build(self) -> None:
        node, options, worker = self.lease.node, self.options, self.worker
        backend = type(task_backends[options.alias])
        slots = 4 * BOUND + worker.threads + 2 * worker.async_concurrency
        self.ledger = Ledger(node, slots=slots)
        self.running = Running(self.ledger)
        self.executor = executor = Executor(
            node,
            options.database_alias,
            backend,
            options.backoff,
            begin=self.running.begin,
            shows_results=False,
        )
        self.claimer = Claimer(self.db, node, options.alias, worker)
        self.flusher = Flusher(
            db.dialect(options.database_alias, owned=True),
            executor,
            self.ledger,
            settled=self._settled,
        )
        self.threads = Threads(
            executor, self.running, self.deliver, count=worker.threads
        )
        self.loop: EventLoop | None = None
        self._soon_until = self._handed_out_at = 0.0
        # When jobs were last taken back from the threads, and from the loop.
        self._stuck_at = self._loop_stuck_at = 0.0
        self.exchange: Exchange | None = None
        if self.db.single_writer:
            self.exchange = Exchange(self.db, self.flusher, self.claimer)
        # The claims this process knows of, and whether the database may know more.
        self.holds: set[tuple[str, int]] = set()
        self._claim_in_doubt = False
        self.flusher.start(flush=self.exchange is None)
        self.threads.start()
        self.lease.start()

    def _turn(self) -> None:
        """Write, if that is this thread's part; claim; then wait for a reason."""
        self.attention.clear()
        if self._claim_in_doubt:
            self.claimer.release_unknown(self.holds)
            self._claim_in_doubt = False
        room = self._room()
        if self.budget is not None:
            room = self.budget.reserve(room)
        jobs: list[Claimed] = []
        try:
            jobs = self._claim(room)
        finally:
            if self.budget is not None:
                self.budget.give_back(room - len(jobs))
        if jobs:
            self._hand_out(jobs)
            if self.stopping:
                return
            self._soon_until = time.monotonic() + SOON_FOR
        elif self._nothing_left(room):
            self.stopping = "drained"
            return
        if room and len(jobs) == room:
            return
        self._hand_back_if_stuck()
        self._wait_for_a_reason(room)

    def _room(self) -> int:
        # The loop is full or blocked. Its jobs cannot be told from the others' before
        # they are claimed, so look now and then whether it still is.
        loop_is_stuck = self.loop and self.loop.freed_at <= self._loop_stuck_at
        if loop_is_stuck and time.monotonic() < self._loop_stuck_at + LOOP_STUCK:
            return 0
        return self.claimer.room(ahead=self.threads.freed_at > self._stuck_at)

    def _claim(self, room: int) -> list[Claimed]:
        if self.exchange is None:
            return self.claimer.claim(room)
        every = 0.0 if self.drain else self.worker.polling_interval
        return self.exchange.turn(room, poll_every=every)

    def _nothing_left(self, room: int) -> bool:
        if self.claimer.in_hand:
            return False
        if self.budget is not None and self.budget.spent():
            return True
        if not self.drain or not room:
            return False
        if not self.claimer.looked_everywhere:
            self.claimer.look_everywhere()
            return False
        return True

    def _hand_out(self, jobs: Sequence[Claimed]) -> None:
        self.holds.update([(job.id, job.claim) for job in jobs])
        self._handed_out_at = time.monotonic()
        asyncs = [job for job in jobs if resolving.is_async(job.task_path)]
        if asyncs:
            if self.loop is None:
                limit = self.worker.async_concurrency
                self.loop = EventLoop(
                    self.executor, self.running, self.deliver, limit=limit
                )
                self.loop.start()
            chosen = {job.id for job in asyncs}
            jobs = [job for job in jobs if job.id not in chosen]
        self.claimer.divide(jobs, asyncs)
        if asyncs and self.loop:
            self.loop.put(asyncs)
        for job in jobs:
            self.threads.jobs.put(job)

    def deliver(self, report: Report) -> None:
        """Take a report from any thread."""
        self.flusher.reports.put(report)
        if self.db.single_writer and not self.attention.is_set():
            self.attention.set()

    def _settled(self, reports: Sequence[Report]) -> None:
        seconds, ran, asyncs = 0.0, 0, 0
        self.holds.difference_update([(r.job.id, r.job.claim) for r in reports])
        for report in reports:
            if report.is_async:
                asyncs += 1
            elif report.outcome is not None:
                move = report.outcome.move
                if type(move) is db.Ended:
                    seconds += move.finished_at - move.started_at
                    ran += 1
        if ran:
            self.claimer.took(seconds, ran)
        self.claimer.settled_async += asyncs
        self.claimer.settled_sync += len(reports) - asyncs
        self.attention.set()

    def _hand_back_if_stuck(self) -> None:
        stuck = time.monotonic() - STUCK
        if self._handed_out_at < stuck:
            if self.threads.freed_at < stuck and self._hand_back_from_threads():
                self._stuck_at = time.monotonic()
            if self.loop and self.loop.freed_at < stuck and self._hand_back_from_loop():
                self._loop_stuck_at = time.monotonic()

    def hand_back(self) -> None:
        """Give back all that has not started."""
        self._hand_back_from_threads()
        self._hand_back_from_loop()

    def _hand_back_from_threads(self) -> int:
        return self._hand_back(self.threads.unstarted(), is_async=False)

    def _hand_back_from_loop(self) -> int:
        jobs = self.loop.unstarted() if self.loop else []
        return self._hand_back(jobs, is_async=True)

    def _hand_back(self, jobs: Sequence[Claimed], *, is_async: bool) -> int:
        if jobs:
            self.claimer.expect_async = False
        if self.budget is not None:
            self.budget.give_back(len(jobs))
        for job in jobs:
            self.deliver(Report(job, lifecycle.release(job), is_async=is_async))
        return len(jobs)

    def _wait_for_a_reason(self, room: int) -> None:
        if not room:
            self.attention.wait(STUCK)
        elif time.monotonic() < self._soon_until or self.db.single_writer:
            self.attention.wait(SOON)
        else:
            self.attention.wait(self.worker.polling_interval)

    def _wait_or_stop(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not self.stopping and (left := deadline - time.monotonic()) > 0:
            self.attention.clear()
            if not self.stopping:
                self.attention.wait(left)
        return self.stopping is not None
