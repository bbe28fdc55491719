"""
Recovering what a dead node held, whoever found it dead.

Any number of rescuers may work on one node at once, and any of them may die in the
middle: every move is fenced by the claim it recovers, and what is left is found
again, by the node's row or by the sweep for jobs held by no registered node.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from windlass import db
from windlass.conf import Options
from windlass.db import Claimed, Ended, Returned, rare
from windlass.exceptions import (
    ProcessExitError,
    ProcessMissingError,
    ProcessPrunedError,
    WindlassError,
)
from windlass.jobs import execution, lifecycle, results
from windlass.jobs.lifecycle import Attempt
from windlass.models import Job, Node, Reason
from windlass.models.jobs import worker_id
from windlass.runtime import identity, ledger
from windlass.signals import job_rescued
from windlass.tasks_api import task_backends, task_finished

logger = logging.getLogger("windlass")

BATCH = 500


class Recovery:
    """Finds dead nodes of one backend and rescues their jobs."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.db = db.dialect(options.database_alias)
        self.nodes = Node.objects.using(options.database_alias)

    def dead_children(self) -> int:
        """Recover nodes of this host whose process no longer runs; no lease needed."""
        rescued = 0
        here = self.nodes.filter(host=identity.host(), backend_alias=self.options.alias)
        for node in here:
            if not identity.is_running(node.pid, node.process_started):
                cause = ProcessExitError(f"{_who(node)} died while it ran this job.")
                rescued += self._bury(node, cause)
        return rescued

    def child(self, pid: int, how: str) -> int:
        """Recover the node of a child that the supervisor saw die."""
        rescued = 0
        for node in self.nodes.filter(host=identity.host(), pid=pid):
            if not identity.is_running(pid, node.process_started):
                cause = ProcessExitError(f"{_who(node)} {how} while it ran this job.")
                rescued += self._bury(node, cause)
        return rescued

    def silent_nodes(self) -> int:
        """Recover nodes, anywhere, whose heartbeat is too old."""
        threshold = self.options.process_alive_threshold
        before = self.db.now() - timedelta(seconds=threshold)
        rescued = 0
        silent = self.nodes.filter(
            backend_alias=self.options.alias, heartbeat_at__lt=before
        )
        for node in silent:
            cause = ProcessPrunedError(
                f"{_who(node)} stopped its heartbeat at {node.heartbeat_at}, over "
                f"{threshold:g} s ago, while it held this job."
            )
            rescued += self._outlaw(node, cause, before)
        return rescued

    def unregistered_holders(self) -> int:
        """Recover jobs whose node is not registered. Reads the hot table once."""
        # Nodes second: one that registers and claims in between must be seen.
        holders = rare.holders(self.db)
        known = set(self.nodes.values_list("id", flat=True))
        rescued = 0
        for node in holders - known:
            cause = ProcessMissingError(
                f"The job was held by the node {worker_id(node)}, which is not "
                "registered any more."
            )
            rescued += self._rescue(node, cause, Reason.LOST)
        return rescued

    def _bury(self, node: Node, cause: WindlassError) -> int:
        """Recover a node that is dead for certain: its row goes last."""
        # Two rescuers do no harm, because each move is fenced by its claim. One that
        # dies here leaves the row, so the next one finds the rest.
        rescued = self._rescue(node.pk, cause, Reason.CRASHED)
        if self.nodes.filter(pk=node.pk).delete()[0]:
            logger.warning("%s is gone; %s of its jobs were recovered.", node, rescued)
        return rescued

    def _outlaw(self, node: Node, cause: WindlassError, before: datetime) -> int:
        """Recover a node that may only be silent: its row goes first, so it stops."""
        if not self.nodes.filter(pk=node.pk, heartbeat_at__lt=before).delete()[0]:
            return 0
        rescued = self._rescue(node.pk, cause, Reason.LOST)
        logger.warning("%s is silent; %s of its jobs were recovered.", node, rescued)
        return rescued

    def _rescue(self, node: int, cause: WindlassError, reason: str) -> int:
        started = _starts(node)
        now = time.time()

        def entry(job: Claimed, began: float) -> dict[str, Any]:
            return execution.describe(Attempt(job, node, began, now), reason, cause)

        rescued = 0
        while jobs := rare.held_by(self.db, node, limit=BATCH):
            moves = lifecycle.rescue(
                self.db, node, jobs, started=started, entry=entry, now=now
            )
            rescued += len(moves)
            self._announce(moves)
            if not moves:
                break
        ledger.forget(ledger.path_of(node))
        return rescued

    def _announce(self, moves: dict[str, lifecycle.Move]) -> None:
        started = [
            id
            for id, move in moves.items()
            if type(move) is Ended or (type(move) is Returned and not move.attempt_back)
        ]
        sender = type(task_backends[self.options.alias])
        jobs = Job.objects.using(self.options.database_alias)
        for job in jobs.filter(pk__in=started):
            result = results.of_job(job)
            job_rescued.send_robust(sender=sender, task_result=result)
            if result.is_finished:
                task_finished.send_robust(sender=sender, task_result=result)


def _starts(node: int) -> Callable[[Claimed], float | None]:
    """When a claim's code began, by the ledger; without one, all count as started."""
    known = ledger.read(node)
    if known is None:
        return lambda job: time.time()
    return lambda job: known.get((job.id, job.claim))


def _who(node: Node) -> str:
    return f"The {node.kind} process {node.pid} on {node.host.split('/')[0]}"
