"""
The pruner deletes ended jobs, and marks of schedules, when their time is over.

It takes a batch, then a pause at least as long, so that however much there is to
delete it stays beside the work and not in its way.
"""

from __future__ import annotations

import time
from datetime import timedelta
from uuid import UUID

from windlass import db, firing
from windlass.conf import Options
from windlass.db import memos
from windlass.jobs import rates
from windlass.jobs.retention import Pruning, retentions

BATCH = 1000
# With nothing to delete: how often to look, and if results are not to be kept at all.
LOOK_EVERY, AT_ONCE_EVERY = 60.0, 1.0
SHORTEST_PAUSE = 0.05
LOOK_EVERYWHERE_EVERY = 3600.0


class Pruner:
    """Prunes the ended jobs of one backend."""

    name = "pruner"

    def __init__(self, options: Options) -> None:
        dialect = self.db = db.dialect(options.database_alias)
        self.options = options
        kept = retentions(
            options.alias,
            preserve_finished=options.preserve_finished_jobs,
            finished_after=options.clear_finished_jobs_after,
            failed_after=options.clear_failed_jobs_after,
        )
        self.prunings = [Pruning(dialect, each, BATCH) for each in kept]
        self.look_every = (
            LOOK_EVERY if options.preserve_finished_jobs else AT_ONCE_EVERY
        )
        self._look_everywhere_at = time.monotonic() + LOOK_EVERYWHERE_EVERY
        self._forget_gone_at = time.monotonic() + LOOK_EVERY
        self._forgot_until: UUID | None = None

    def tick(self) -> float:
        """Delete a batch of each kind; give back the seconds until the next."""
        began = time.monotonic()
        if began >= self._look_everywhere_at:
            self._look_everywhere_at = began + LOOK_EVERYWHERE_EVERY
            for pruning in self.prunings:
                pruning.look_everywhere()
        is_more = [pruning.step() == BATCH for pruning in self.prunings]
        is_more.append(self._prune_marks() == BATCH)
        idle = rates.forget_idle(self.db, self.options.alias, limit=BATCH)
        is_more.append(idle == BATCH)
        if any(is_more):
            return max(SHORTEST_PAUSE, time.monotonic() - began)
        if began >= self._forget_gone_at:
            self._forget_gone_at = began + LOOK_EVERY
            self._forget_gone()
        return self.look_every

    def _forget_gone(self) -> None:
        """Delete what jobs have left that were deleted past us, a part each time."""
        after = self._forgot_until
        self._forgot_until = memos.forget_gone(self.db, after=after, limit=BATCH)

    def _prune_marks(self) -> int:
        age = self.options.clear_recurring_executions_after
        if age is None:
            return 0
        before = self.db.now() - timedelta(seconds=age)
        alias = self.options.alias
        return firing.prune_marks(self.db, alias, before=before, limit=BATCH)

    def database_returned(self) -> None:
        """See ``Service``: nothing to do."""
