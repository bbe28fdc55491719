"""
The limiter looks after concurrency limits: what died with a slot, who waits for none.

Slots pass from job to job where jobs end. This is for the rest: a process that died, a
limit that was raised, a queue that is paused no more. Any node may run one.
"""

from __future__ import annotations

from windlass import db
from windlass.conf import Options
from windlass.jobs.limits import Limits

EVERY = 1.0


class Limiter:
    """Sweeps the slots of a database."""

    name = "limiter"

    def __init__(self, options: Options) -> None:
        self.db = db.dialect(options.database_alias)
        self.limits = Limits(options.alias, options.queue_limits)
        self._after = ""

    def database_returned(self) -> None:
        """Nothing to do: what is swept follows from the rows."""

    def tick(self) -> float:
        """Sweep some keys; give back the seconds until the next ones."""
        self._after = self.limits.sweep(self.db, after=self._after)
        return EVERY
