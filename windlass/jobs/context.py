"""What a task that takes its context is given: Django's context, and ours beside it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from asgiref.sync import sync_to_async
from django.utils import timezone

from windlass import db
from windlass.db import Claimed, rare
from windlass.exceptions import StaleJob
from windlass.jobs.arguments import dump_value
from windlass.jobs.resolving import put
from windlass.tasks_api import TaskContext


@dataclass(frozen=True, slots=True, kw_only=True)
class JobContext(TaskContext):  # type: ignore[misc]  # frozen, only not in its stub
    """The running attempt, as its task sees it."""

    job: Claimed
    node: int
    database: str
    stop_asked: Callable[[Claimed], bool] = lambda job: False
    timeout: float | None = None
    began: float = field(default_factory=time.monotonic)

    def remaining(self) -> float | None:
        """Seconds until this attempt times out, 0 at least; None without a timeout."""
        if self.timeout is None:
            return None
        return max(0.0, self.began + self.timeout - time.monotonic())

    def should_stop(self) -> bool:
        """
        Whether the attempt should come to an end soon: its job is being cancelled, it
        has timed out, or its worker stops. Polite code looks now and then, keeps what
        it has, and returns or raises ``Snooze`` or ``Retry``.
        """
        return self.stop_asked(self.job)

    @property
    def metadata(self) -> dict[str, Any]:
        """The job's metadata. Changes are kept when ``save_metadata`` stores them."""
        result: Any = self.task_result
        if result.metadata is None:
            put(result, "metadata", {})
        metadata: dict[str, Any] = result.metadata
        return metadata

    def save_metadata(self) -> None:
        """Store the metadata now; raise StaleJob if this attempt lost the job."""
        text = dump_value(self.metadata, "metadata")
        self._write(metadata=json.loads(text))

    async def asave_metadata(self) -> None:
        """See ``save_metadata``."""
        await sync_to_async(self.save_metadata)()

    def progress(
        self, current: float, total: float | None = None, message: str = ""
    ) -> None:
        """
        Say how far the task has come, for whoever looks at the job.

        One UPDATE each time, outside any fence but the claim's: call it a few times
        a second at most. Raises StaleJob if this attempt lost the job.
        """
        said = {
            "current": current,
            "total": total,
            "message": str(message),
            "at": timezone.now().isoformat(),
        }
        dump_value(said, "progress")
        put(self.task_result, "progress", said)
        self._write(progress=said)

    async def aprogress(
        self, current: float, total: float | None = None, message: str = ""
    ) -> None:
        """See ``progress``."""
        await sync_to_async(self.progress)(current, total, message)

    def _write(self, **columns: Any) -> None:
        if not self.database:
            # A test backend, which has no row: the result at hand is all there is.
            for name, value in columns.items():
                put(self.task_result, name, value)
            return
        own = db.dialect(self.database)
        if not rare.annotate(own, self.node, self.job, **columns):
            raise StaleJob(
                f"Job {self.job.id}: this attempt no longer holds the job, so "
                f"{', '.join(columns)} was not stored."
            )
