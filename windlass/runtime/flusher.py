"""
Group commit: outcomes become durable together, a moment after their tasks end.

The flusher writes whatever has gathered the instant its last write returns. There
is no timer: alone, an outcome is written at once; under load, hundreds share one
commit. Signals are sent after the write, in a thread of their own, so a receiver
that takes its time holds up no write, and only outcomes that were recorded are
announced. The window between a task's end and its record is one write long.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import NamedTuple

from django.db import DatabaseError

from windlass.db import Claimed, Dialect, Ended
from windlass.jobs import announcing, lifecycle, outcomes
from windlass.jobs.lifecycle import Move
from windlass.jobs.limits import Limits
from windlass.jobs.outcomes import Executor, Outcome
from windlass.runtime.endings import tell_ends
from windlass.runtime.handover import Handover
from windlass.runtime.hygiene import tidy_connections
from windlass.runtime.ledger import Ledger
from windlass.runtime.outage import LOST, Outage
from windlass.signals import heard
from windlass.tasks_api import task_finished

logger = logging.getLogger("windlass")

MOST = 350
Chains = list[list[Claimed]]


class Report(NamedTuple):
    """One job's outcome on its way to the database, and where it was noted."""

    job: Claimed
    move: Move
    outcome: Outcome | None = None
    slot: int | None = None
    is_async: bool = False
    # Whose code still runs under the slot that is in this one's name.
    keeper: Claimed | None = None


def _is_recorded(report: Report) -> bool:
    return report.outcome is not None and report.outcome.recorded


class Flusher:
    """Takes reports from any thread and records them in batches."""

    def __init__(
        self,
        db: Dialect,
        executor: Executor,
        ledger: Ledger,
        *,
        settled: Callable[[Sequence[Report]], None],
        limits: Limits,
        handover: Handover,
        began: Callable[[], None] = lambda: None,
        tells_ends: Callable[[], bool] = lambda: False,
    ) -> None:
        self.db, self.executor, self.ledger = db, executor, ledger
        self.settled = settled
        self.limits, self.handover, self.began = limits, handover, began
        self.tells_ends = tells_ends
        # Held while this node may hold jobs that its worker does not know of yet.
        self.handing_on = threading.Lock()
        self.reports: SimpleQueue[Report | None] = SimpleQueue()
        self.recorded: SimpleQueue[list[tuple[Report, bool]] | None] = SimpleQueue()
        self.abandoned = threading.Event()
        self.outage = Outage("flusher", db)
        self.threads = [
            threading.Thread(target=self._flush_until_told, name="windlass-flusher"),
            threading.Thread(target=self._announce_until_told, name="windlass-signals"),
        ]

    def start(self, *, flush: bool) -> None:
        """Start the threads; without ``flush`` the owner calls ``write`` itself."""
        if not flush:
            del self.threads[0]
        for thread in self.threads:
            thread.daemon = True
            thread.start()

    def stop(self) -> None:
        """Write and announce what has been reported, then end the threads."""
        if len(self.threads) > 1:
            self.reports.put(None)
            self.threads[0].join()
        self.recorded.put(None)
        self.threads[-1].join()

    def take(self, first: Report | None = None) -> list[Report]:
        """Up to one batch of waiting reports."""
        batch = [first] if first else []
        try:
            while len(batch) < MOST:
                report = self.reports.get_nowait()
                if report is None:
                    self.reports.put(None)
                    break
                batch.append(report)
        except Empty:
            pass
        return batch

    def _flush_until_told(self) -> None:
        self.began()
        while (first := self.reports.get()) is not None:
            batch = self.take(first)
            self.outage.persist(
                lambda batch=batch: self.write(batch),  # type: ignore[misc]
                wait=self.abandoned.wait,
            )
        self.db.close()

    def write(self, batch: Sequence[Report]) -> None:
        """Record a batch, then hand it on to be announced."""
        with self.handing_on:
            try:
                moved, handed_on = self.record(batch)
            except LOST:
                raise
            except DatabaseError:
                alone = [self._write_alone(report) for report in batch]
                batch = [report for report, _moved in alone]
                moved = set().union(*(moved for _report, moved in alone))
                handed_on = self.release(batch)
            self.wrote(batch, moved, handed_on)

    def record(self, batch: Sequence[Report]) -> tuple[set[str], Chains]:
        """Record a batch; give back whose claims held, and who got their slots."""
        node, moves = self.executor.node, self.moves(batch)
        if not any(self.limits.concern(report.job) for report in batch):
            return lifecycle.record(self.db, node, moves), []
        with self.db.transaction():
            return lifecycle.record(self.db, node, moves), self.release(batch)

    def release(self, batch: Sequence[Report]) -> Chains:
        """Free the slots of these jobs; give back those that this node got for them."""
        return self.limits.release(
            self.db,
            self.executor.node,
            [report.job for report in batch],
            taker=self.handover,
            keepers={r.job.id: r.keeper for r in batch if r.keeper is not None},
        )

    def wrote(
        self, batch: Sequence[Report], moved: set[str], handed_on: Chains
    ) -> None:
        """Note that a batch is durable and which of its claims still held."""
        if handed_on:
            # First, so that at every moment somebody counts them.
            self.handover.put(handed_on)
        for report in batch:
            if report.slot is not None:
                self.ledger.clear(report.slot)
            if report.job.id not in moved and not _is_recorded(report):
                logger.warning(
                    "Job %s: claim %s was taken over meanwhile, so this report of it "
                    "was refused.",
                    report.job.id,
                    report.job.claim,
                )
        found = [(r, r.job.id in moved or _is_recorded(r)) for r in batch]
        self.recorded.put(found)
        if self.tells_ends():
            ids = [
                r.job.id
                for r, was_moved in found
                if was_moved and type(r.move) is Ended
            ]
            tell_ends(self.db, self.limits.backend_alias, ids)

    def moves(self, batch: Sequence[Report]) -> list[Move]:
        """What is still to be written of these reports."""
        return [report.move for report in batch if not _is_recorded(report)]

    def _write_alone(self, report: Report) -> tuple[Report, set[str]]:
        # One row that the database refuses must not hold up its neighbours' ends.
        node, job = self.executor.node, report.job
        try:
            return report, lifecycle.record(self.db, node, self.moves([report]))
        except LOST:
            raise
        except DatabaseError as error:
            logger.exception("Job %s: its outcome cannot be stored.", job.id)
            now = self.executor.clock()
            end = outcomes.failed(job, error, self.executor, now, may_repeat=False)
            failed = report._replace(move=end.move, outcome=end)
            return failed, lifecycle.record(self.db, node, [failed.move])

    def _announce_until_told(self) -> None:
        while (batch := self.recorded.get()) is not None:
            for report, was_moved in batch:
                outcome = report.outcome
                if was_moved and outcome is not None and outcome.result is not None:
                    self._announce(outcome)
            self.settled([report for report, _was_moved in batch])

    def _announce(self, outcome: Outcome) -> None:
        try:
            announcing.announce(outcome, self.executor)
        except BaseException:
            # A receiver may raise even SystemExit, and it must not end this thread.
            logger.exception("Job %s: a receiver of its end failed.", outcome.move.id)
        if heard(task_finished):
            tidy_connections()
