"""
How long jobs that have ended are kept, and deleting them a few at a time.

Only what has ended is ever deleted, the oldest end first, in short transactions, and
rows that someone else has locked are left for later. So any number of nodes may prune
at once, beside workers that add to the same table. Jobs of a kind that is kept for
ever would be walked past each time; a cursor remembers what has been looked at, and
now and then forgets it, because a failed job that is discarded keeps its old end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from windlass.db import Dialect
from windlass.jobs import lifecycle
from windlass.models.jobs import EndedJob, EndedJobQuerySet, State

SUCCEEDED = (State.SUCCEEDED.value,)
# A failed job is kept until someone has seen to it, if the project does not say.
FINISHED = (*SUCCEEDED, State.CANCELLED.value, State.DISCARDED.value)
FAILED = (State.FAILED.value,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Which ended jobs of a backend go: those in ``states`` for longer than ``age``."""

    backend_alias: str
    states: tuple[str, ...]
    age: timedelta
    queue_name: str | None = None
    task_path: str | None = None

    def among(self, ended: EndedJobQuerySet) -> EndedJobQuerySet:
        """Those of some ended jobs that this is about, however old."""
        found = ended.filter(backend_alias=self.backend_alias, state__in=self.states)
        if self.queue_name is not None:
            found = found.filter(queue_name=self.queue_name)
        if self.task_path is not None:
            found = found.filter(task_path=self.task_path)
        return found


@dataclass(slots=True)
class Pruning:
    """Deletes what one retention lets go, batch by batch."""

    db: Dialect
    retention: Retention
    batch: int = 500
    since: datetime | None = field(default=None, init=False)

    def step(self) -> int:
        """Delete one batch; give back how many jobs went."""
        before = self.db.now() - self.retention.age
        ends = lifecycle.prune(
            self.db,
            among=self.retention.among,
            since=self.since,
            before=before,
            limit=self.batch,
        )
        if ends:
            self.since = ends[-1]
        return len(ends)

    def all(self, told_to_stop: Callable[[], bool] = lambda: False) -> int:
        """Delete batches until nothing is left to delete; give back the number."""
        total = 0
        while not told_to_stop() and (count := self.step()):
            total += count
        return total

    def count(self) -> int:
        """How many jobs may go now."""
        ended = EndedJob.objects.using(self.db.database)
        before = self.db.now() - self.retention.age
        return self.retention.among(ended.ended_before(before)).count()

    def look_everywhere(self) -> None:
        """Let the next step begin at the oldest job again."""
        self.since = None


def retentions(
    backend_alias: str,
    *,
    preserve_finished: bool,
    finished_after: float | None,
    failed_after: float | None,
) -> list[Retention]:
    """What a backend's options let go; seconds, and None keeps for ever."""
    ages = [
        (SUCCEEDED, None if preserve_finished else 0.0),
        (FINISHED, finished_after),
        (FAILED, failed_after),
    ]
    return [
        Retention(
            backend_alias=backend_alias, states=states, age=timedelta(seconds=age)
        )
        for states, age in ages
        if age is not None
    ]
