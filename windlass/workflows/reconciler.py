"""
The reconciler sees to runs that nobody moved on, and tells of those that are over.

A run moves on in the transaction that ends a member. What comes to its end without
that, because its job was pruned, or because what follows an end had failed, is found
here from the rows. Any node may run one; each repair is made under the run's lock.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef

from windlass import db
from windlass.conf import Options
from windlass.models import EndedJob, LiveJob
from windlass.workflows.cancelling import press
from windlass.workflows.engine import Advance
from windlass.workflows.models import (
    Kind,
    WorkflowEdge,
    WorkflowMember,
    WorkflowRun,
    WorkflowSpace,
)
from windlass.workflows.rows import lock_runs
from windlass.workflows.signals import workflow_finished

EVERY = 1.0
PAGE = 1000
MOST_RUNS = 100
# A finished run goes when all of its jobs are gone, and not before this.
PRUNE_EVERY, KEPT_FOR = 60.0, timedelta(hours=1)


class Reconciler:
    """Looks after the runs of one backend."""

    name = "workflows"

    def __init__(self, options: Options) -> None:
        self.db = db.dialect(options.database_alias)
        rows = WorkflowRun.objects.using(self.db.database)
        self.runs = rows.filter(backend_alias=options.alias)
        self.members = WorkflowMember.objects.using(self.db.database)
        self._after: UUID | None = None
        self._prune_at = time.monotonic() + PRUNE_EVERY

    def database_returned(self) -> None:
        """Nothing to do: what is to be repaired follows from the rows."""

    def tick(self) -> float:
        """Repair some runs, tell of others; give back the seconds until the next."""
        if self.runs.running().exists():
            self._settle_unnoticed()
            self._end_unnoticed()
            self._press_cancels()
        self._announce()
        if time.monotonic() >= self._prune_at:
            self._prune_at = time.monotonic() + PRUNE_EVERY
            self._prune()
        return EVERY

    def _settle_unnoticed(self) -> None:
        """Settle open members whose jobs have ended, a page of all in each tick."""
        rows = self.members.filter(is_open=True, kind=Kind.JOB).order_by("pk")
        if self._after is not None:
            rows = rows.filter(pk__gt=self._after)
        page = list(rows.values_list("pk", "run")[:PAGE])
        self._after = page[-1][0] if len(page) == PAGE else None
        ids = [id for id, _run in page]
        live = LiveJob.objects.using(self.db.database).filter(pk__in=ids)
        alive = set(live.values_list("pk", flat=True))
        lost: dict[UUID, list[UUID]] = {}
        for id, run in page:
            if id not in alive:
                lost.setdefault(run, []).append(id)
        for run, members in lost.items():
            self._repair(run, members)

    def _repair(self, run: UUID, members: Sequence[UUID]) -> None:
        with transaction.atomic(using=self.db.database):
            advance = Advance(self.db, lock_runs(self.db, [run]))
            advance.settle_ended(members, pruned=True)
            advance.finish()

    def _end_unnoticed(self) -> None:
        left = self.members.filter(run=OuterRef("pk"), is_open=True)
        over = self.runs.running().filter(~Exists(left)).order_by()
        for run in over.values_list("pk", flat=True)[:MOST_RUNS]:
            self._repair(run, [])

    def _press_cancels(self) -> None:
        asked = self.runs.running().filter(cancel_reason__isnull=False).order_by()
        for id in list(asked.values_list("pk", flat=True)[:MOST_RUNS]):
            with transaction.atomic(using=self.db.database):
                run = lock_runs(self.db, [id]).get(id)
                if run and not run.is_finished and run.cancel_reason is not None:
                    press(self.db, run)

    def _announce(self) -> None:
        over = self.runs.finished().filter(is_announced=False).order_by()
        for run in list(over[:MOST_RUNS]):
            workflow_finished.send_robust(sender=WorkflowRun, run=run)
            said = self.runs.filter(pk=run.pk, finished_at=run.finished_at)
            said.update(is_announced=True)

    def _prune(self) -> None:
        own = self.db.database
        is_kept = Exists(EndedJob.objects.using(own).filter(pk=OuterRef("pk")))
        is_live = Exists(LiveJob.objects.using(own).filter(pk=OuterRef("pk")))
        jobs = self.members.filter(run=OuterRef("pk"), kind=Kind.JOB)
        over = self.runs.finished().filter(
            ~Exists(jobs.filter(is_kept | is_live)),
            finished_at__lt=self.db.now() - KEPT_FOR,
            is_announced=True,
        )
        ids = list(over.order_by("created_at").values_list("pk", flat=True)[:MOST_RUNS])
        for id in ids:
            forget(self.db.database, id)


def forget(database: str, run: UUID) -> None:
    """Delete a finished run with its members; its jobs, if any are left, stay."""
    with transaction.atomic(using=database):
        WorkflowEdge.objects.using(database).filter(run=run)._raw_delete(database)
        WorkflowMember.objects.using(database).filter(run=run)._raw_delete(database)
        WorkflowSpace.objects.using(database).filter(pk=run)._raw_delete(database)
        WorkflowRun.objects.using(database).filter(pk=run)._raw_delete(database)
