"""
The pruner deletes ended jobs whose time is over, as the options say.

It takes a batch, then a pause at least as long, so that however much there is to
delete it stays beside the work and not in its way.
"""

from __future__ import annotations

import time

from windlass import db
from windlass.conf import Options
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
        dialect = db.dialect(options.database_alias)
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

    def tick(self) -> float:
        """Delete a batch of each kind; give back the seconds until the next."""
        began = time.monotonic()
        if began >= self._look_everywhere_at:
            self._look_everywhere_at = began + LOOK_EVERYWHERE_EVERY
            for pruning in self.prunings:
                pruning.look_everywhere()
        is_more = [pruning.step() == BATCH for pruning in self.prunings]
        if any(is_more):
            return max(SHORTEST_PAUSE, time.monotonic() - began)
        return self.look_every

    def database_returned(self) -> None:
        """See ``Service``: nothing to do."""
