"""What a task that takes its context is given: Django's context, and ours beside it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.utils import timezone

from windlass import db
from windlass.db import Claimed, rare
from windlass.exceptions import StaleJob
from windlass.jobs import durable, followers
from windlass.jobs.arguments import dump_value
from windlass.jobs.recall import Recall
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
    recall: Recall = field(init=False)

    def __post_init__(self) -> None:
        task = self.task_result.task
        put(self, "recall", Recall(self.job, self.node, self.database, task))

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
    def workflow(self) -> Any:
        """The run this job is a member of, with its workspace; None if of none."""
        return followers.seen_from(self.job, self.node, self.database)

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

    # Durable steps

    def step(
        self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        """
        Call a function once for this job, and give back what it returned, always.

        Its result, anything that JSON can hold, is recorded, and whenever an attempt
        comes here again it is given back without a call. If it raises, nothing is
        recorded. An attempt that dies after the call and before the record calls it
        again: see ``atomic_step``. A name that is used again means the next of that
        name. Raises StepMismatch if the code has changed under the job, StepError
        inside a transaction, and StaleJob if this attempt lost the job.
        """
        return durable.step(self.recall, name, partial(function, *args, **kwargs))

    async def astep(
        self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        """See ``step``. A coroutine function is awaited, another runs in a thread."""
        call = partial(function, *args, **kwargs)
        return await durable.astep(self.recall, name, call)

    def atomic_step(
        self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        """
        Do as ``step`` does, in one transaction of the queue's database with the record.

        What the function writes there happens exactly once.
        """
        call = partial(function, *args, **kwargs)
        return durable.step(self.recall, name, call, atomic=True)

    async def aatomic_step(
        self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        """See ``atomic_step``; for plain functions."""
        return await sync_to_async(self.atomic_step)(name, function, *args, **kwargs)

    def sleep(self, delay: float | timedelta, *, name: str = "sleep") -> None:
        """
        Let the job sleep, for seconds or a timedelta, without a worker.

        The attempt ends here and does not count. The time runs from when the job first
        came here; after it the task is called again, replays its steps, and goes on.
        """
        durable.sleep(self.recall, delay, name)

    async def asleep(self, delay: float | timedelta, *, name: str = "sleep") -> None:
        """See ``sleep``."""
        await sync_to_async(self.sleep)(delay, name=name)

    def sleep_until(self, moment: datetime, *, name: str = "sleep") -> None:
        """Let the job sleep as ``sleep`` does, until an aware datetime."""
        durable.sleep_until(self.recall, moment, name)

    async def asleep_until(self, moment: datetime, *, name: str = "sleep") -> None:
        """See ``sleep_until``."""
        await sync_to_async(self.sleep_until)(moment, name=name)

    def wait_for(
        self,
        name: str,
        timeout: float | timedelta | None = None,
        default: Any = None,
    ) -> Any:
        """
        Give back the payload of an event of this job: see ``windlass.api.send_event``.

        One that has come already is taken at once, the oldest first, each once. Else
        the attempt ends here and does not count, and the task is called again with the
        event, or after ``timeout`` (seconds or a timedelta, from when the job first
        came here), when ``default`` is given back. None waits for ever.
        """
        return durable.wait_for(self.recall, name, timeout, default)

    async def await_for(
        self,
        name: str,
        timeout: float | timedelta | None = None,
        default: Any = None,
    ) -> Any:
        """See ``wait_for``."""
        return await sync_to_async(self.wait_for)(name, timeout, default)


def insist(args: Sequence[Any]) -> None:
    """Raise what has ended an attempt at a durable step, if its code let that go."""
    if args and type(args[0]) is JobContext:
        ending = args[0].recall.ending
        if ending is not None:
            raise ending
