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
from windlass.jobs import resolving
from windlass.jobs.outcomes import Executor
from windlass.models import Node
from windlass.runtime import handback
from windlass.runtime.assembly import assemble, event_loop
from windlass.runtime.budget import Budget
from windlass.runtime.child import RECYCLED
from windlass.runtime.claimer import Claimer
from windlass.runtime.evidence import Evidence
from windlass.runtime.exchange import Exchange
from windlass.runtime.executors import EventLoop, Threads
from windlass.runtime.flag import Flag
from windlass.runtime.flusher import Flusher, Report
from windlass.runtime.handover import Handover
from windlass.runtime.ledger import Ledger
from windlass.runtime.node import TAKEN_OVER, Lease
from windlass.runtime.outage import LOST, Outage
from windlass.runtime.own_threads import own_thread
from windlass.runtime.processes import Processes
from windlass.runtime.recycling import Recycling
from windlass.runtime.running import Running
from windlass.runtime.shutdown import finish
from windlass.runtime.watch import Watch
from windlass.tasks_api import task_backends

logger = logging.getLogger("windlass")

# After the last job or wake-up, look again this often for this long: producers
# notify at most once in 10 ms, so a job may come without a notification of its own.
SOON, SOON_FOR = 0.004, 0.05
LOOP_STUCK = 1.0


class Worker:
    """The parts of one worker process, and the loop that feeds them."""

    # Made by assemble(), once the node is registered.
    ledger: Ledger
    running: Running
    watch: Watch
    handover: Handover
    claimer: Claimer
    flusher: Flusher
    threads: Threads
    recycling: Recycling

    stopping: str | None = None
    # A stop that waits for nothing; one after which nothing is ours to record.
    forced = abandoned = False
    exit_code = 0

    def __init__(
        self,
        options: Options,
        worker: WorkerOptions,
        *,
        name: str,
        supervisor_pid: int | None,
        drain: bool = False,
        budget: Budget | None = None,
        node: int | None = None,
    ) -> None:
        self.options, self.worker, self.name = options, worker, name
        self.drain, self.budget = drain, budget
        self.attention = Flag()
        # When the claim loop last came round, with answers from the database.
        self.turned_at: float | None = None
        self.db = db.dialect(options.database_alias, owned=True)
        self.outage = Outage(name, self.db)
        self.loop: EventLoop | None = None
        self.exchange: Exchange | None = None
        self._soon_until = self.handed_out_at = 0.0
        # When jobs were last taken back from the threads, and from the loop.
        self.stuck_at = self.loop_stuck_at = 0.0
        # The claims this process knows of, and whether the database may know more.
        self.holds: set[tuple[str, int]] = set()
        self.claim_in_doubt = False
        self.lease = self._lease(supervisor_pid, node)
        backend = type(task_backends[options.alias])
        self.executor = Executor(
            *(self.lease.node, options.database_alias, backend, options.backoff),
            max_attempts=options.max_attempts,
            shows_results=False,
        )
        # Now, while this process has one thread.
        self.processes = Processes(
            self.executor,
            most=worker.threads,
            crash_limit=options.crash_limit,
            lost=self._lost,
        )

    def _lease(self, supervisor_pid: int | None, node: int | None) -> Lease:
        return Lease(
            self.options,
            kind=Node.Kind.WORKER,
            name=self.name,
            supervisor_pid=supervisor_pid,
            details=Evidence(self).details,
            wake=self._wake,
            lost=self._lost,
            cancels=self._cancels,
            queues=self.worker.queues,
            node=node,
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
        if why == TAKEN_OVER:
            self.abandoned = self.forced = True
        if not self.stopping or self.abandoned:
            logger.error("%s: stopping, because %s.", self.name, why)
            self.exit_code = 1
            self.stop(why)

    def _cancels(self, cancels: dict[str, str]) -> None:
        self.running.cancels = cancels
        if cancels:
            self.watch.look()

    # The loop

    def run(self) -> int:
        """Work until told to stop; give back the exit code."""
        own_thread(self.options)
        if not self.lease.register(wait=self._wait_or_stop):
            self.processes.close()
            return 0
        assemble(self)
        self.turned_at = time.monotonic()
        try:
            while not self.stopping:
                try:
                    self._turn()
                    self.turned_at = time.monotonic()
                    self.outage.ended()
                except LOST as error:
                    self.claim_in_doubt = True
                    self.threads.outages += 1
                    self._wait_or_stop(self.outage.began(error))
            finish(self)
        finally:
            self.processes.close()
            self.db.close()
        return self.exit_code

    def _turn(self) -> None:
        """Write, if that is this thread's part; claim; then wait for a reason."""
        self.attention.clear()
        self.settle_doubt()
        if self.handover:
            self._hand_out(self.handover.take())
        room = self.recycling.room(self._room(), self.claimer.in_hand)
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
        handback.if_stuck(self)
        self._wait_for_a_reason(room)

    def settle_doubt(self) -> None:
        """Give back what this node may hold without knowing of it."""
        if self.claim_in_doubt:
            with self.flusher.handing_on:
                self.claimer.release_unknown(self.holds)
            self.claim_in_doubt = False

    def _room(self) -> int:
        # The loop is full or blocked. Its jobs cannot be told from the others' before
        # they are claimed, so look now and then whether it still is.
        loop_is_stuck = self.loop and self.loop.freed_at <= self.loop_stuck_at
        if loop_is_stuck and time.monotonic() < self.loop_stuck_at + LOOP_STUCK:
            return 0
        return self.claimer.room(ahead=self.threads.freed_at > self.stuck_at)

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
        self.handed_out_at = time.monotonic()
        asyncs = [job for job in jobs if resolving.runs_on_loop(job)]
        if asyncs:
            if self.loop is None:
                self.loop = event_loop(self)
            chosen = {job.id for job in asyncs}
            jobs = [job for job in jobs if job.id not in chosen]
        self.claimer.divide(jobs, asyncs)
        if asyncs and self.loop:
            self.loop.put(asyncs)
        for job in jobs:
            self.threads.jobs.put(job)

    def deliver(self, report: Report) -> None:
        """Take a report from any thread."""
        self.handover.follow(report.job)
        self.flusher.reports.put(report)
        if self.db.single_writer and not self.attention.is_set():
            self.attention.set()

    def settled(self, reports: Sequence[Report]) -> None:
        """Learn that these jobs are off our hands, and how long they took."""
        seconds, ran, asyncs = 0.0, 0, 0
        self.holds.difference_update([(r.job.id, r.job.claim) for r in reports])
        for report in reports:
            if report.is_async:
                asyncs += 1
            elif report.outcome is not None:
                move = report.outcome.move
                if type(move) is db.Ended and move.started_at is not None:
                    seconds, ran = seconds + move.finished_at - move.started_at, ran + 1
                elif type(move) is db.Advanced:
                    seconds, ran = seconds + move.ran, ran + 1
        if ran:
            self.claimer.took(seconds, ran)
        if self.recycling.reached(settled=sum(bool(r.outcome) for r in reports)):
            self.exit_code = self.exit_code or RECYCLED
            self.stop("it has done its share")
        self.claimer.settled_async += asyncs
        self.claimer.settled_sync += len(reports) - asyncs
        self.attention.set()

    def _wait_for_a_reason(self, room: int) -> None:
        if not room:
            self.attention.wait(handback.STUCK)
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
