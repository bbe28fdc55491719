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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from django.db.models import Exists, F, OuterRef

from windlass.db.base import Dialect
from windlass.db.due import put_off
from windlass.db.records import Claimed
from windlass.db.rows import claimed
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


class Hold(NamedTuple):
    """A claim, and a key of which it may have a place."""

    key: str
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
            self.slots.filter(key="", number=-1).update(claim=0)

    def taken(self, keys: Sequence[str], *, lock: bool = False) -> Taken:
        """Which places of keys are held; ``lock`` keeps others from freeing them."""
        rows = self.slots.filter(key__in=keys)
        if lock:
            rows = rows.order_by("key", "number").select_for_update()
        return grouped(rows.values_list("key", "number"))

    def occupy(self, places: Sequence[Place]) -> set[str]:
        """Take places; give back the jobs that missed one because it was taken."""
        self.slots.bulk_create(
            [Slot(**place._asdict()) for place in sorted(places)],
            ignore_conflicts=True,
        )
        rows = self.slots.filter(key__in={place.key for place in places})
        found = set(self._holds(rows.values_list("key", "number", "job", "claim")))
        return {place.job for place in places if place not in found}

    def occupy_alone(self, places: Sequence[Place]) -> set[str]:
        """
        Take a place of each of some keys, unless any of that key is taken.

        Gives back the jobs that missed theirs.
        """
        held = self.taken([place.key for place in places])
        free = [place for place in places if place.key not in held]
        missed = {place.job for place in places if place.key in held}
        return missed | self.occupy(free) if free else missed

    def _holds(self, rows: Iterable[tuple[str, int, UUID, int]]) -> Iterator[Place]:
        return (Place(key, number, str(id), claim) for key, number, id, claim in rows)

    def keep(self, holds: Iterable[tuple[Hold, Hold]]) -> None:
        """Let slots belong to other claims, each to the second of a pair."""
        for old, new in holds:
            rows = self.slots.filter(key=old.key, job=old.job, claim=old.claim)
            rows.update(job=new.job, claim=new.claim)

    def vacate(self, holds: Iterable[Hold]) -> list[tuple[str, int]]:
        """Free the places of some claims; give back the key and number of each."""
        wanted = set(holds)
        with self.db.transaction():
            rows = self.slots.filter(key__in={hold.key for hold in wanted})
            rows = rows.order_by("key", "number").select_for_update()
            held = self._holds(rows.values_list("key", "number", "job", "claim"))
            ours = [p for p in held if Hold(p.key, p.job, p.claim) in wanted]
            freed = [(place.key, place.number) for place in ours]
            self.slots.filter(pk__in=freed)._raw_delete(self.db.database)
        return freed

    def divert(self, node: int, jobs: Sequence[tuple[Claimed, str]]) -> None:
        """Let held jobs wait for the key that each lacks, as if never claimed."""
        held = self.live.filter(node=node)
        for claim in {job.claim for job, _key in jobs}:
            ids = [job.id for job, _key in jobs if job.claim == claim]
            held.filter(id__in=ids, claim=claim).update(
                node=None,
                started_at=None,
                hold=HOLD,
                available_at=put_off(self.db),
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

    def somebody_waits(self) -> bool:
        """Whether any job waits for any key."""
        return self.waiters.exists()

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
        return [claimed(row) for row in rows]

    def hand_on(
        self, node: int, jobs: Sequence[Claimed], places: Sequence[Place]
    ) -> list[Claimed]:
        """
        Let a node hold jobs that waited, where all their places are free.

        The jobs are locked, and as their next claim will be. Gives back those that
        got their places; the others may have got some.
        """
        lost = self.occupy(places)
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
        rows = self.slots.filter(~Exists(held)).values_list("key", "job", "claim")
        holds = [Hold(key, str(job), claim) for key, job, claim in rows[:limit]]
        return sorted({key for key, _number in self.vacate(holds)})

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
