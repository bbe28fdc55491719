"""What the engine tells of jobs, and what that means for their runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from windlass.db import Claimed, Dialect
from windlass.jobs.followers import Follower
from windlass.jobs.policies import read
from windlass.workflows import retrying
from windlass.workflows.engine import Advance
from windlass.workflows.models import WorkflowMember
from windlass.workflows.rows import HOLD, lock_runs
from windlass.workflows.workspace import RunningIn


class _Members(Follower):
    """Follows the members of runs."""

    def ended(self, db: Dialect, ids: Sequence[str]) -> None:
        """Settle members, and let go what waited for them."""
        runs = _runs_of(db, ids, is_open=True)
        if runs:
            advance = Advance(db, lock_runs(db, runs))
            advance.settle_ended(ids)
            advance.finish()

    def revived(self, db: Dialect, ids: Sequence[str]) -> None:
        """Open members again, and everything that came after them."""
        runs = _runs_of(db, ids, is_open=False)
        if runs:
            retrying.reopen_revived(db, lock_runs(db, runs), ids)

    def seen_from(self, job: Claimed, node: int, database: str) -> RunningIn | None:
        """The run of a job, as its task sees it."""
        run = read(job.policy).get(HOLD) if job.policy else None
        return None if run is None else RunningIn(UUID(run), job, node, database)


def _runs_of(db: Dialect, ids: Sequence[str], *, is_open: bool) -> list[Any]:
    members = WorkflowMember.objects.using(db.database)
    rows = members.filter(pk__in=ids, is_open=is_open).order_by()
    return list(rows.values_list("run", flat=True).distinct())


FOLLOWER = _Members()
