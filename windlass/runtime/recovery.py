"""
Recovering what a dead node held, whoever found it dead.

The node's row goes and its jobs are rescued in one transaction: at most one rescuer
wins, the others wait until it has finished, and one that dies has done nothing. A
node that still lives learns that it lost its work when it finds its row gone.

A claim that a process sent before its death may commit after all this. The ledger is
kept until a second look has found nothing any more.
"""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import Any

from django.db import transaction

from windlass import db
from windlass.conf import Options
from windlass.db import Ended, Returned, cancels, rare
from windlass.exceptions import (
    ProcessExitError,
    ProcessMissingError,
    ProcessPrunedError,
    WindlassError,
)
from windlass.jobs import lifecycle, results
from windlass.models import Job, Node, Reason
from windlass.models.history import worker_id
from windlass.runtime import identity, ledger
from windlass.runtime.verdict import Verdict
from windlass.signals import job_cancelled, job_rescued
from windlass.tasks_api import task_backends, task_finished

logger = logging.getLogger("windlass")

BATCH = 500


class Recovery:
    """Finds dead nodes of one backend and rescues their jobs."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.db = db.dialect(options.database_alias)
        self.nodes = Node.objects.using(options.database_alias)
        # What to look at again, and the cause to name if there is more.
        self.recovered: list[tuple[int, WindlassError, str]] = []

    def dead_children(self) -> int:
        """Recover nodes of this host whose process no longer runs; no lease needed."""
        rescued = 0
        here = self.nodes.filter(host=identity.host(), backend_alias=self.options.alias)
        for node in here:
            if not (_is_alive(node) or self._is_left_to_its_supervisor(node)):
                cause = ProcessExitError(f"{_who(node)} died while it ran this job.")
                rescued += self._take_over(node, cause, Reason.CRASHED)
        return rescued

    def _is_left_to_its_supervisor(self, node: Node) -> bool:
        # The supervisor saw how it died, so for a moment the story is its to tell.
        patience = timedelta(seconds=2 * self.options.process_heartbeat_interval + 1)
        began = identity.process_start(node.supervisor_pid or 0)
        return (
            node.heartbeat_at > self.db.now() - patience
            and 0 < began <= node.process_started
            and identity.is_running(node.supervisor_pid or 0, began)
        )

    def child(self, pid: int, how: str) -> int:
        """Recover the node of a child that the supervisor saw die."""
        rescued = 0
        for node in self.nodes.filter(host=identity.host(), pid=pid):
            if not _is_alive(node):
                cause = ProcessExitError(f"{_who(node)} {how} while it ran this job.")
                rescued += self._take_over(node, cause, Reason.CRASHED)
        return rescued

    def silent_nodes(self) -> int:
        """Recover nodes, anywhere, whose heartbeat is too old."""
        threshold = self.options.process_alive_threshold
        until = time.monotonic() + self.options.process_heartbeat_interval
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
            rescued += self._take_over(
                node, cause, Reason.LOST, before=before, until=until
            )
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
            rescued += self._rescue_and_announce(node, cause, Reason.LOST)
        return rescued

    def look_again(self) -> int:
        """Rescue what nodes already recovered hold, and forget what they had begun."""
        rescued = 0
        while self.recovered:
            rescued += self._rescue_and_announce(*self.recovered[-1])
            node, _cause, _reason = self.recovered.pop()
            ledger.forget(ledger.path_of(node))
        return rescued

    def _take_over(
        self, node: Node, cause: WindlassError, reason: str, **lease: Any
    ) -> int:
        row = self.nodes.filter(pk=node.pk)
        if lease:
            row = row.filter(heartbeat_at__lt=lease["before"])
        with transaction.atomic(using=self.options.database_alias):
            if not row.delete()[0]:
                return 0
            if lease and time.monotonic() > lease["until"]:
                # What held up this statement has held up their heartbeats as well.
                transaction.set_rollback(True, using=self.options.database_alias)
                return 0
            moves = self._rescue(node.pk, cause, reason)
        self.recovered.append((node.pk, cause, reason))
        logger.warning("%s is gone; %s of its jobs were recovered.", node, len(moves))
        self._announce(moves)
        return len(moves)

    def _rescue_and_announce(self, node: int, cause: WindlassError, reason: str) -> int:
        moves = self._rescue(node, cause, reason)
        self._announce(moves)
        return len(moves)

    def _rescue(
        self, node: int, cause: WindlassError, reason: str
    ) -> dict[str, lifecycle.Move]:
        verdict = Verdict(self.options, node, cause, reason, self._cancels())
        rescued: dict[str, lifecycle.Move] = {}
        while jobs := rare.held_by(self.db, node, limit=BATCH):
            moves = lifecycle.rescue(self.db, node, jobs, verdict)
            if not moves:
                break
            rescued |= moves
        return rescued

    def _cancels(self) -> dict[str, str]:
        return cancels.cancel_requests(self.db, self.options.alias)

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
            if result.state == "cancelled":
                job_cancelled.send_robust(sender=sender, task_result=result)


def _is_alive(node: Node) -> bool:
    return identity.is_running(node.pid, node.process_started)


def _who(node: Node) -> str:
    return f"The {node.kind} process {node.pid} on {node.host.split('/')[0]}"
