"""
The workspace: what the members of a run share, and how they change it together.

Every change is made under the lock of the workspace's own row, and starts from what
is stored at that moment. So changes of different keys never undo each other; of the
same key, the one that commits last stays. Whoever needs what was there before, to
count or to append, holds the lock while it looks and changes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F

from windlass.db import Claimed
from windlass.exceptions import StaleJob
from windlass.jobs.arguments import dump_value
from windlass.models import LiveJob
from windlass.twins import twin
from windlass.workflows.models import WorkflowMember, WorkflowRun, WorkflowSpace


@dataclass(frozen=True, slots=True)
class RunningIn:
    """The run of a member, as its running task sees it: ``context.workflow``."""

    id: UUID
    job: Claimed
    node: int
    database: str

    @property
    def run(self) -> WorkflowRun:
        """The run, read now."""
        return WorkflowRun.objects.using(self.database).get(pk=self.id)

    @property
    def name(self) -> str:
        """The name of this member."""
        rows = WorkflowMember.objects.using(self.database)
        return rows.get(pk=self.job.id).name

    @property
    def workspace(self) -> dict[str, Any]:
        """The workspace as it is now, a copy: changing it stores nothing."""
        row = WorkflowSpace.objects.using(self.database).get(pk=self.id)
        data: dict[str, Any] = row.data
        return data

    def update(self, /, **changes: Any) -> None:
        """
        Store values under keys of the workspace; other keys stay as they are.

        Raises TypeError for what is no JSON, StaleJob if this attempt lost its job;
        then nothing is stored.
        """
        dump_value(changes, "the workspace")
        with self.lock() as workspace:
            workspace.update(changes)

    @contextmanager
    def lock(self) -> Iterator[dict[str, Any]]:
        """
        Give the workspace to be changed in place, while nobody else changes it.

        Stored when the block ends without an error, in the caller's transaction if
        there is one; until that ends the other members' changes wait. Raises as
        ``update`` does.
        """
        spaces = WorkflowSpace.objects.using(self.database).filter(pk=self.id)
        with transaction.atomic(using=self.database):
            # A write before the look locks the row on every database.
            spaces.update(version=F("version") + 1)
            self._check_hold()
            data = spaces.get().data
            yield data
            text = dump_value(data, "the workspace")
            spaces.update(data=json.loads(text))

    def _check_hold(self) -> None:
        rows = LiveJob.objects.using(self.database)
        hold = {"node": self.node, "claim": self.job.claim}
        if not rows.filter(pk=self.job.id, **hold).exists():
            raise StaleJob(
                f"Job {self.job.id}: this attempt no longer holds the job, so the "
                "workspace was not changed."
            )

    aupdate = twin(update)
