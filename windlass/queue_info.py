"""One queue, as an operator sees it: how long, how late, and whether it is paused."""

from __future__ import annotations

from datetime import datetime

from windlass import conf, db
from windlass.bulk import discard_ready_jobs
from windlass.by_hand import ClaimedJob, claim_ready_jobs, execute_claimed_job
from windlass.db import Dialect, rare
from windlass.db.shares import shares
from windlass.jobs import pauses
from windlass.models import LiveJob, Queue
from windlass.models.jobs import LiveJobQuerySet
from windlass.tasks_api import DEFAULT_TASK_BACKEND_ALIAS as DEFAULT
from windlass.twins import twin

# How many jobs drain() holds at a time.
DRAIN_BATCH = 50


class QueueInfo:
    """
    A queue of one backend; nothing is remembered, each answer is asked for anew.

    A queue needs no declaration, so one that nobody ever used is empty and not paused.
    """

    def __init__(self, name: str, backend_alias: str = DEFAULT) -> None:
        self.name, self.backend_alias = name, backend_alias

    def __repr__(self) -> str:
        return f"QueueInfo({self.name!r}, {self.backend_alias!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, QueueInfo):
            return NotImplemented
        return (self.name, self.backend_alias) == (other.name, other.backend_alias)

    def __hash__(self) -> int:
        return hash((self.name, self.backend_alias))

    @classmethod
    def all(cls, backend_alias: str = DEFAULT) -> list[QueueInfo]:
        """Every queue that has unended jobs, or that is paused; by name."""
        dialect = _dialect(backend_alias)
        names = {queue for queue, _nice in dialect.lanes(backend_alias)}
        paused = Queue.objects.using(dialect.database).paused()
        names.update(
            paused.filter(backend_alias=backend_alias).values_list("name", flat=True)
        )
        return [cls(name, backend_alias) for name in sorted(names)]

    @property
    def size(self) -> int:
        """How many jobs are ready; those in a paused queue are."""
        return self._ready().count()

    @property
    def latency(self) -> float | None:
        """
        For how many seconds the oldest ready job has waited; 0.0 if there is none.

        Time for which the queue was paused does not count, and while it is paused there
        is no latency: None.
        """
        queue = self._queue()
        if queue is not None and queue.is_paused:
            return None
        now = self._dialect.now()
        # Lane by lane, for that is how the index finds the oldest without a sort.
        waited = [
            self._waited(nice, share, queue, now)
            for nice in self._nices()
            for share in ("", *self._shares(nice))
        ]
        return max(waited, default=0.0)

    def _shares(self, nice: int) -> list[str]:
        lane, most = (self.name, nice), rare.SHARES_LOOKED_AT
        return shares(self._dialect, self.backend_alias, lane, limit=most)

    def _nices(self) -> list[int]:
        lanes = self._dialect.lanes(self.backend_alias)
        return [nice for name, nice in lanes if name == self.name]

    def _waited(
        self, nice: int, share: str, queue: Queue | None, now: datetime
    ) -> float:
        lane = self._ready(now).filter(nice=nice, share=share).order_by("available_at")
        since = lane.values_list("available_at", flat=True).first()
        if since is None:
            return 0.0
        waited = now - since
        if queue is not None:
            waited -= queue.paused_within(since, now)
        return max(0.0, waited.total_seconds())

    @property
    def paused(self) -> bool:
        """Whether the queue is paused."""
        queue = self._queue()
        return queue is not None and queue.is_paused

    @property
    def pause_reason(self) -> str:
        """Why the queue is paused; empty if it is not, or nobody said."""
        queue = self._queue()
        return queue.pause_reason if queue else ""

    def pause(self, reason: str = "") -> bool:
        """
        Let no worker claim jobs of this queue until ``resume``; enqueueing goes on.

        Jobs that were claimed before go on. Every claim that begins after this has
        returned (or after the transaction it is called in has committed) leaves the
        queue alone, on every node. Gives back False if it was paused already.
        """
        return pauses.pause(self._dialect, self.backend_alias, self.name, reason)

    def resume(self) -> bool:
        """Let workers claim jobs of this queue again; False if it was not paused."""
        return pauses.resume(self._dialect, self.backend_alias, self.name)

    def clear(self) -> int:
        """
        Throw away every job of this queue that is ready now; give back how many.

        Jobs that run, are scheduled or blocked, or have failed stay as they are.
        """
        return discard_ready_jobs(
            queue_name=self.name, backend_alias=self.backend_alias
        )

    def drain(self) -> int:
        """
        Run the ready jobs of this queue here, until none is left; give back how many.

        For scripts and tests: in the calling thread, one after another, beside whatever
        workers there are. What the jobs enqueue on this queue is run too, and nothing
        while it is paused.
        """
        done = 0
        while jobs := self._claim():
            for job in jobs:
                execute_claimed_job(job)
                done += 1
        return done

    async def asize(self) -> int:
        """See ``size``."""
        return await twin(lambda: self.size)()

    async def alatency(self) -> float | None:
        """See ``latency``."""
        return await twin(lambda: self.latency)()

    async def apaused(self) -> bool:
        """See ``paused``."""
        return await twin(lambda: self.paused)()

    apause = twin(pause)
    aresume = twin(resume)
    aclear = twin(clear)
    adrain = twin(drain)

    def _claim(self) -> list[ClaimedJob]:
        return claim_ready_jobs(
            DRAIN_BATCH, self.name, backend_alias=self.backend_alias
        )

    @property
    def _dialect(self) -> Dialect:
        return _dialect(self.backend_alias)

    def _queue(self) -> Queue | None:
        queues = Queue.objects.using(self._dialect.database)
        return queues.filter(backend_alias=self.backend_alias, name=self.name).first()

    def _ready(self, now: datetime | None = None) -> LiveJobQuerySet:
        live = LiveJob.objects.using(self._dialect.database)
        return live.ready(now=now or self._dialect.now()).filter(
            backend_alias=self.backend_alias, queue_name=self.name
        )


def _dialect(backend_alias: str) -> Dialect:
    return db.dialect(conf.options(backend_alias).database_alias)
