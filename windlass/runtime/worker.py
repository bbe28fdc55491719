"""
One worker process: claim, run, record, until told to stop.

The main thread claims. Threads and an event loop run tasks, the flusher records
their outcomes, and a heartbeat thread keeps the lease and listens. On a database
with one writer, the main thread records too, in the transaction of its next claim.

A stop lets what has started end, hands back what has not, and after
``shutdown_timeout`` takes what still runs from its threads: a job that may run again
is released, one that may not ends as interrupted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from django.db import DatabaseError

from windlass import db
from windlass.conf import Options, WorkerOptions
from windlass.db import Claimed, rare
from windlass.exceptions import ProcessExitError
from windlass.jobs import execution, lifecycle
from windlass.jobs.execution import Executor
from windlass.jobs.lifecycle import Attempt
from windlass.models import Node, Reason
from windlass.runtime.budget import Budget
from windlass.runtime.claimer import BOUND, Claimer
from windlass.runtime.executors import EventLoop, Running, Threads
from windlass.runtime.flusher import Flusher, Report
from windlass.runtime.ledger import Ledger
from windlass.runtime.node import Lease
from windlass.runtime.outage import LOST, Outage
from windlass.tasks_api import task_backends

logger = logging.getLogger("windlass")

# After the last job or wake-up, look again this often for this long: producers
# notify at most once in 50 ms, so a job may come without a notification of its own.
SOON, SOON_FOR = 0.005, 0.1
# Jobs that no thread has begun in this time go back to where others can take them.
STUCK = 0.2


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
        self.attention = threading.Event()
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
        """Ask for a graceful stop; asked twice, for an immediate one."""
        if self.stopping:
            self.forced = True
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
                    self._wait_or_stop(self.outage.began(error))
            self._finish()
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
        )
        self.claimer = Claimer(self.db, node, options.alias, worker)
        self.flusher = Flusher(
            db.dialect(options.database_alias, owned=True),
            executor,
            self.ledger,
            settled=self._settled,
        )
        self.threads = Threads(
            executor, self.running, self._deliver, count=worker.threads
        )
        self.loop: EventLoop | None = None
        self._soon_until = self._handed_out_at = self._poll_at = 0.0
        self._unwritten: list[Report] = []
        # The claims this process knows of, and whether the database may know more.
        self.holds: set[tuple[str, int]] = set()
        self._claim_in_doubt = False
        self.flusher.start(flush=not self.db.single_writer)
        self.threads.start()
        self.lease.start()

    def _turn(self) -> None:
        """Write, if that is this thread's part; claim; then wait for a reason."""
        self.attention.clear()
        if self._claim_in_doubt:
            self._release_unknown_claims()
        room = self.claimer.room()
        if self.budget is not None:
            room = self.budget.reserve(room)
        jobs: list[Claimed] = []
        try:
            jobs = self._exchange(room) if self.db.single_writer else self._claim(room)
        finally:
            if self.budget is not None:
                self.budget.give_back(room - len(jobs))
        if jobs:
            self._hand_out(jobs)
            self._soon_until = time.monotonic() + SOON_FOR
        elif self._nothing_left(room):
            self.stopping = "drained"
            return
        if room and len(jobs) == room:
            return
        self._hand_back_if_stuck()
        self._wait_for_a_reason(room)

    def _nothing_left(self, room: int) -> bool:
        if self.claimer.in_hand:
            return False
        if self.budget is not None and self.budget.spent():
            return True
        if not self.drain or not room:
            return False
        if not self.claimer.looked_everywhere:
            self.claimer.lanes.forget_floors()
            return False
        return True

    def _claim(self, room: int) -> list[Claimed]:
        return self.claimer.claim(room) if room else []

    def _exchange(self, room: int) -> list[Claimed]:
        """Record what has ended and claim the next, in one commit."""
        if not self._unwritten:
            self._unwritten = self.flusher.take()
        batch = self._unwritten
        if not batch:
            return self._claim_if_changed(room)
        try:
            with self.db.transaction():
                moves = [report.move for report in batch]
                moved = lifecycle.record(self.db, self.executor.node, moves)
                jobs = self._claim(room)
        except LOST:
            raise
        except DatabaseError:
            # One of them cannot be stored; the flusher finds out which.
            self._write_now()
            return []
        self._unwritten = []
        self.flusher.wrote(batch, moved)
        return jobs

    def _claim_if_changed(self, room: int) -> list[Claimed]:
        now = time.monotonic()
        if room and (self.db.changed() or now >= self._poll_at or self.drain):
            self._poll_at = now + self.worker.polling_interval
            return self._claim(room)
        return []

    def _release_unknown_claims(self) -> None:
        # A claim whose answer was lost may have been committed. Nobody else would
        # ever give those jobs back, because this node lives.
        node = self.executor.node
        held = rare.held_by(self.db, node, limit=4 * BOUND)
        unknown = [job for job in held if (job.id, job.claim) not in self.holds]
        lifecycle.record(self.db, node, [lifecycle.release(job) for job in unknown])
        self._claim_in_doubt = False

    def _hand_out(self, jobs: Sequence[Claimed]) -> None:
        self.holds.update([(job.id, job.claim) for job in jobs])
        self._handed_out_at = time.monotonic()
        asyncs = [job for job in jobs if execution.is_async(job)]
        if asyncs:
            if self.loop is None:
                limit = self.worker.async_concurrency
                self.loop = EventLoop(
                    self.executor, self.running, self._deliver, limit=limit
                )
                self.loop.start()
            chosen = {job.id for job in asyncs}
            jobs = [job for job in jobs if job.id not in chosen]
        self.claimer.divide(jobs, asyncs)
        if asyncs and self.loop:
            self.loop.put(asyncs)
        for job in jobs:
            self.threads.jobs.put(job)

    def _deliver(self, report: Report) -> None:
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
        waited = time.monotonic() - max(self.running.last_end, self._handed_out_at)
        if waited > STUCK:
            self._hand_back()

    def _hand_back(self) -> None:
        for job in self.threads.unstarted():
            self.claimer.expect_async = False
            self._deliver(Report(job, lifecycle.release(job)))
        for job in self.loop.unstarted() if self.loop else ():
            self._deliver(Report(job, lifecycle.release(job), is_async=True))

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

    # The end

    def _finish(self) -> None:
        """Hand back what has not started, wait for what has, record all of it."""
        self._hand_back()
        self.threads.stop()
        deadline = time.monotonic() + self.options.shutdown_timeout
        while self.claimer.in_hand and not self.forced:
            self.attention.clear()
            if self.db.single_writer:
                self._write_now()
            if time.monotonic() >= deadline:
                break
            self.attention.wait(0.05)
        if self.claimer.in_hand:
            self._interrupt()
        self._last_writes()
        if self.loop is not None:
            self.loop.stop()
        if self.claimer.in_hand:
            # What the database did not take is recovered with the ledger's help.
            self.exit_code = 1
        else:
            self.ledger.remove()
            self.lease.stop()

    def _interrupt(self) -> None:
        for job, started, slot in list(self.running.jobs.values()):
            attempt = Attempt(job, self.executor.node, started, time.time())
            error = ProcessExitError(
                f"The worker {self.name} had to stop ({self.stopping}) before this "
                "attempt ended, and the job may not run twice. Retry it if that is safe."
            )
            entry = execution.describe(attempt, Reason.INTERRUPTED, error)
            move = lifecycle.interrupt(attempt, entry)
            self._deliver(Report(job, move, slot=slot))

    def _last_writes(self) -> None:
        try:
            if self.db.single_writer:
                self._write_now()
            deadline = time.monotonic() + 10
            while self.claimer.in_hand and time.monotonic() < deadline:
                if self.db.single_writer:
                    self._write_now()
                self.attention.clear()
                self.attention.wait(0.02)
        except LOST as error:
            logger.error("%s: the last records were not written: %s", self.name, error)
        self.flusher.abandoned.set()
        self.flusher.stop()

    def _write_now(self) -> None:
        self._unwritten = self._unwritten or self.flusher.take()
        while self._unwritten:
            self.flusher.write(self._unwritten)
            self._unwritten = self.flusher.take()
