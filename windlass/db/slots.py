"""
The rows of concurrency limits: who holds a place of a key, and who waits for one.

Whoever finds a key full locks its slots before it lets a job wait; whoever frees a slot
takes it away before it looks for who waits. So one of the two sees the other, and no
job waits for a place that is free. Both go through the keys in order, which is why
they never wait for each other in a circle.

``Slots`` says it in portable form; PostgreSQL has its own words in a module beside.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from django.db.models import Exists, F, OuterRef

from windlass.db.base import Dialect
from windlass.db.records import Claimed
from windlass.models.jobs import LiveJob
from windlass.models.limits import Slot, Waiter
from windlass.models.queues import Queue

# What a job that waits for a slot is held by.
HOLD = "limit"
# SQLite would read all who wait for a key to say that somebody does.
WAITED_FOR = """
    SELECT value FROM json_each(%s) wanted WHERE EXISTS (
      SELECT 1 FROM windlass_waiter WHERE key = wanted.value)
"""

Taken = dict[str, set[int]]


class Place(NamedTuple):
    """A place of a key that a claim takes."""

    key: str
    number: int
    job: str
    claim: int


class Waiting(NamedTuple):
    """One in the line for a key; no job if it is blocked no more, or locked."""

    key: str
    id: str
    job: Claimed | None
    is_paused: bool


class Slots:
    """What is done with the slots of one database."""

    def __init__(self, db: Dialect) -> None:
        self.db = db
        self.slots = Slot.objects.using(db.database)
        self.waiters = Waiter.objects.using(db.database)
        self.live = LiveJob.objects.using(db.database)

    def begin_writing(self) -> None:
        """Make this transaction the one that writes, where only one can."""
        if self.db.single_writer:
            self.slots.filter(pk=0).update(number=0)

    def taken(self, keys: Sequence[str], *, lock: bool = False) -> Taken:
        """Which places of keys are held; ``lock`` keeps others from freeing them."""
        rows = self.slots.filter(key__in=keys)
        if lock:
            rows = rows.order_by("key", "number").select_for_update()
        return grouped(rows.values_list("key", "number"))

    def occupy(self, places: Sequence[Place]) -> set[tuple[str, str]]:
        """Take places that are free; give back the (key, job) of those that were."""
        self.slots.bulk_create(
            [Slot(**place._asdict()) for place in sorted(places)],
            ignore_conflicts=True,
        )
        wanted = {(place.job, place.claim) for place in places}
        found = self.slots.filter(job__in=[place.job for place in places])
        return {
            (key, str(job))
            for key, job, claim in found.values_list("key", "job", "claim")
            if (str(job), claim) in wanted
        }

    def keep(self, holds: Mapping[str, tuple[str, int]]) -> None:
        """Let slots of some jobs belong to other claims, each to its own."""
        for id, (job, claim) in holds.items():
            self.slots.filter(job=id).update(job=job, claim=claim)

    def vacate(self, holds: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
        """Free the places of some claims; give back the key and number of each."""
        wanted = set(holds)
        jobs = [id for id, _claim in wanted]
        with self.db.transaction():
            ours = self.slots.filter(job__in=jobs).order_by("key", "number")
            found = [
                slot
                for slot in ours.select_for_update()
                if (str(slot.job), slot.claim) in wanted
            ]
            ids = [slot.pk for slot in found]
            self.slots.filter(pk__in=ids)._raw_delete(self.db.database)
        return [(slot.key, slot.number) for slot in found]

    def divert(self, node: int, jobs: Sequence[tuple[Claimed, str]]) -> None:
        """Let held jobs wait for the key that each lacks, as if never claimed."""
        held = self.live.filter(node=node)
        for claim in {job.claim for job, _key in jobs}:
            ids = [job.id for job, _key in jobs if job.claim == claim]
            held.filter(id__in=ids, claim=claim).update(
                node=None,
                started_at=None,
                hold=HOLD,
                available_at=self.db.far_future(),
                attempts=F("attempts") - 1,
            )
        self.waiters.bulk_create(
            [
                Waiter(job=job.id, key=key, nice=job.nice, enqueued_at=job.enqueued_at)
                for job, key in jobs
            ],
            ignore_conflicts=True,
        )

    def next_waiters(self, most: Mapping[str, int]) -> list[tuple[str, str]]:
        """The (job, key) of up to so many that wait for each key, in their order."""
        found: list[tuple[str, str]] = []
        # One question tells, for most keys, that nobody waits.
        for key in self._waited_for(list(most)):
            line = self.waiters.filter(key=key).order_by("nice", "enqueued_at", "job")
            jobs = line.values_list("job", flat=True)[: most[key]]
            found += [(str(job), key) for job in jobs]
        return found

    def _waited_for(self, keys: Sequence[str]) -> list[str]:
        if self.db.connection.vendor == "sqlite":
            with self.db.connection.cursor() as cursor:
                cursor.execute(WAITED_FOR, [json.dumps(keys)])
                return [key for (key,) in cursor.fetchall()]
        rows = self.waiters.filter(key__in=keys)
        return list(rows.values_list("key", flat=True).distinct())

    def line(self, most: Mapping[str, int]) -> tuple[list[Waiting], Taken]:
        """Who is next for some keys, their jobs locked; and which places are held."""
        waiters = self.next_waiters(most)
        if not waiters:
            return [], {}
        jobs = {job.id: job for job in self.blocked([id for id, _k in waiters])}
        names = {(job.backend_alias, job.queue_name) for job in jobs.values()}
        paused = Queue.objects.using(self.db.database).paused()
        paused = paused.filter(name__in={name for _alias, name in names})
        found = set(paused.values_list("backend_alias", "name"))
        line = []
        for id, key in waiters:
            job = jobs.get(id)
            queue = job and (job.backend_alias, job.queue_name)
            line.append(Waiting(key, id, job, queue in found))
        return line, self.taken(sorted({key for _id, key in waiters}))

    def blocked(self, ids: Sequence[str], *, lock: bool = True) -> list[Claimed]:
        """Those of jobs that wait for a slot; with ``lock``, those nobody else has."""
        rows = self.live.waiting().filter(id__in=ids, hold=HOLD)
        if lock:
            skips = self.db.connection.features.has_select_for_update_skip_locked
            rows = rows.select_for_update(skip_locked=skips)
        return [self.db.claimed(row) for row in rows]

    def hand_on(
        self, node: int, jobs: Sequence[Claimed], places: Sequence[Place]
    ) -> list[Claimed]:
        """
        Let a node hold jobs that waited, where all their places are free.

        The jobs are locked, and as their next claim will be. Gives back those that
        got their places; the others may have got some.
        """
        got = self.occupy(places)
        lost = {place.job for place in places if (place.key, place.job) not in got}
        held = [job for job in jobs if job.id not in lost]
        now = self.db.now()
        self.live.filter(id__in=[job.id for job in held]).update(
            node=node,
            started_at=now,
            hold="",
            available_at=now,
            attempts=F("attempts") + 1,
            claim=F("claim") + 1,
        )
        forget_waiters(self.db, [job.id for job in held])
        return [job._replace(available_at=now) for job in held]

    def wait_for_others(self, keys: Mapping[str, str]) -> None:
        """Let jobs that wait for one key wait for another one, each for its own."""
        for id, key in keys.items():
            self.waiters.filter(job=id).update(key=key)

    def forget_gone_waiters(self, ids: Sequence[str]) -> bool:
        """Delete the rows of those of some jobs that are blocked no more, if any is."""
        left = self.live.filter(id__in=ids, hold=HOLD).values_list("id", flat=True)
        kept = {str(id) for id in left}
        gone = [id for id in ids if id not in kept]
        forget_waiters(self.db, gone)
        return bool(gone)

    def free_abandoned(self, *, limit: int) -> list[str]:
        """Free places whose claim holds no job any more; give back their keys."""
        held = self.live.filter(
            id=OuterRef("job"), claim=OuterRef("claim"), node__isnull=False
        )
        abandoned = self.slots.filter(~Exists(held)).values_list("job", "claim")
        freed = self.vacate((str(job), claim) for job, claim in abandoned[:limit])
        return sorted({key for key, _number in freed})

    def waiting_keys(self, *, after: str, limit: int) -> list[str]:
        """Keys for which jobs wait, in order, beyond one: a seek for each."""
        keys = self.waiters.order_by("key").values_list("key", flat=True)
        found: list[str] = []
        while len(found) < limit and (key := keys.filter(key__gt=after).first()):
            found.append(key)
            after = key
        return found


def grouped(rows: Iterable[tuple[str, int]]) -> Taken:
    """Places by their key."""
    found: Taken = {}
    for key, number in rows:
        found.setdefault(key, set()).add(number)
    return found


def forget_waiters(db: Dialect, ids: Sequence[str]) -> None:
    """Delete the rows of jobs that wait no more."""
    Waiter.objects.using(db.database).filter(job__in=ids)._raw_delete(db.database)
