"""
The rows of concurrency limits: who holds a place of a key, and who waits for one.

Whoever finds a key full locks its slots before it lets a job wait; whoever frees a slot
takes it away before it looks for who waits. So one of the two sees the other, and no
job waits for a place that is free. Both go through the keys in order, which is why
they never wait for each other in a circle.
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
TO_OCCUPY = """
    INSERT INTO windlass_slot (key, number, job, claim)
    SELECT * FROM unnest(%s::text[], %s::int[], %s::uuid[], %s::int[])
    ON CONFLICT (key, number) DO NOTHING RETURNING key, job::text
"""
TO_VACATE = """
    WITH held AS MATERIALIZED (
      SELECT id FROM windlass_slot
       WHERE job = ANY(%s::uuid[]) AND (job, claim) IN (
         SELECT * FROM unnest(%s::uuid[], %s::int[]))
       ORDER BY key, number FOR UPDATE)
    DELETE FROM windlass_slot WHERE id = ANY(ARRAY(SELECT id FROM held)) RETURNING key
"""
WHO_IS_NEXT = """
    SELECT waiter.job::text, waiter.key
      FROM unnest(%s::text[], %s::int[]) wanted (key, most) CROSS JOIN LATERAL (
        SELECT job, key FROM windlass_waiter WHERE key = wanted.key
         ORDER BY nice, enqueued_at, job LIMIT wanted.most) waiter
"""
# SQLite would read all who wait for a key to say that somebody does.
WAITED_FOR = """
    SELECT value FROM json_each(%s) wanted WHERE EXISTS (
      SELECT 1 FROM windlass_waiter WHERE key = wanted.value)
"""


class Place(NamedTuple):
    """A place of a key that a claim takes."""

    key: str
    number: int
    job: str
    claim: int


Holds = Iterable[tuple[str, int]]
Taken = dict[str, set[int]]


def taken(db: Dialect, keys: Sequence[str], *, lock: bool = False) -> Taken:
    """Which places of some keys are held; ``lock`` keeps others from freeing them."""
    rows = Slot.objects.using(db.database).filter(key__in=keys)
    if lock:
        rows = rows.order_by("key", "number").select_for_update()
    found: Taken = {}
    for key, number in rows.values_list("key", "number"):
        found.setdefault(key, set()).add(number)
    return found


def begin_writing(db: Dialect) -> None:
    """Make this transaction the one that writes, where only one can."""
    if db.single_writer:
        Slot.objects.using(db.database).filter(pk=0).update(number=0)


def occupy(db: Dialect, places: Sequence[Place]) -> set[tuple[str, str]]:
    """Take places that are free; give back the (key, job) of those that were."""
    places = sorted(places)
    if db.connection.vendor == "postgresql":
        with db.connection.cursor() as cursor:
            cursor.execute(
                TO_OCCUPY, [list(column) for column in zip(*places, strict=True)]
            )
            return set(cursor.fetchall())
    rows = Slot.objects.using(db.database)
    rows.bulk_create(
        [Slot(**place._asdict()) for place in places], ignore_conflicts=True
    )
    wanted = {(place.job, place.claim) for place in places}
    found = rows.filter(job__in=[place.job for place in places])
    return {
        (key, str(job))
        for key, job, claim in found.values_list("key", "job", "claim")
        if (str(job), claim) in wanted
    }


def vacate(db: Dialect, holds: Holds) -> list[str]:
    """Free the places of some claims; give back the key of each."""
    holds = list(holds)
    jobs, claims = [id for id, _claim in holds], [claim for _id, claim in holds]
    if db.connection.vendor == "postgresql":
        with db.connection.cursor() as cursor:
            cursor.execute(TO_VACATE, (jobs, jobs, claims))
            return [key for (key,) in cursor.fetchall()]
    rows = Slot.objects.using(db.database)
    wanted = set(holds)
    with db.transaction():
        ours = rows.filter(job__in=jobs).order_by("key", "number").select_for_update()
        found = [slot for slot in ours if (str(slot.job), slot.claim) in wanted]
        rows.filter(pk__in=[slot.pk for slot in found])._raw_delete(db.database)
    return [slot.key for slot in found]


def next_waiters(db: Dialect, most: Mapping[str, int]) -> list[tuple[str, str]]:
    """The (job, key) of up to so many that wait for each key, in their order."""
    if db.connection.vendor == "postgresql":
        with db.connection.cursor() as cursor:
            cursor.execute(WHO_IS_NEXT, (list(most), list(most.values())))
            return [tuple(row) for row in cursor.fetchall()]
    found: list[tuple[str, str]] = []
    rows = Waiter.objects.using(db.database)
    # One question tells, for most keys, that nobody waits.
    for key in _waited_for(db, list(most)):
        waiters = rows.filter(key=key).order_by("nice", "enqueued_at", "job")
        jobs = waiters.values_list("job", flat=True)[: most[key]]
        found += [(str(job), key) for job in jobs]
    return found


def waiting_keys(db: Dialect, *, after: str, limit: int) -> list[str]:
    """Keys for which jobs wait, in order, from one on: a seek for each."""
    rows = Waiter.objects.using(db.database).order_by("key")
    keys = rows.values_list("key", flat=True)
    found: list[str] = []
    while len(found) < limit and (key := keys.filter(key__gt=after).first()):
        found.append(key)
        after = key
    return found


def _waited_for(db: Dialect, keys: Sequence[str]) -> list[str]:
    if db.connection.vendor == "sqlite":
        with db.connection.cursor() as cursor:
            cursor.execute(WAITED_FOR, [json.dumps(keys)])
            return [key for (key,) in cursor.fetchall()]
    rows = Waiter.objects.using(db.database).filter(key__in=keys)
    return list(rows.values_list("key", flat=True).distinct())


def divert(db: Dialect, node: int, jobs: Sequence[tuple[Claimed, str]]) -> None:
    """Let held jobs wait for the key that each lacks, as if never claimed."""
    live = LiveJob.objects.using(db.database).filter(node=node)
    for claim in {job.claim for job, _key in jobs}:
        ids = [job.id for job, _key in jobs if job.claim == claim]
        live.filter(id__in=ids, claim=claim).update(
            node=None,
            started_at=None,
            hold=HOLD,
            available_at=db.far_future(),
            attempts=F("attempts") - 1,
        )
    Waiter.objects.using(db.database).bulk_create(
        [
            Waiter(job=job.id, key=key, nice=job.nice, enqueued_at=job.enqueued_at)
            for job, key in jobs
        ],
        ignore_conflicts=True,
    )


def blocked(db: Dialect, ids: Sequence[str], *, lock: bool = True) -> list[Claimed]:
    """Those of some jobs that wait for a slot; with ``lock``, those nobody else has."""
    rows = LiveJob.objects.using(db.database).waiting().filter(id__in=ids, hold=HOLD)
    if lock:
        skips = db.connection.features.has_select_for_update_skip_locked
        rows = rows.select_for_update(skip_locked=skips)
    return [db.claimed(row) for row in rows]


def hand_on(db: Dialect, node: int, jobs: Sequence[Claimed]) -> list[Claimed]:
    """Let a node hold jobs that waited for a slot; they are locked."""
    now = db.now()
    ids = [job.id for job in jobs]
    LiveJob.objects.using(db.database).filter(id__in=ids).update(
        node=node,
        started_at=now,
        hold="",
        available_at=now,
        attempts=F("attempts") + 1,
        claim=F("claim") + 1,
    )
    forget_waiters(db, ids)
    return [
        job._replace(claim=job.claim + 1, attempts=job.attempts + 1, available_at=now)
        for job in jobs
    ]


def wait_for_others(db: Dialect, keys: Mapping[str, str]) -> None:
    """Let jobs that wait for one key wait for another one, each for its own."""
    rows = Waiter.objects.using(db.database)
    for id, key in keys.items():
        rows.filter(job=id).update(key=key)


def forget_waiters(db: Dialect, ids: Sequence[str]) -> None:
    """Delete the rows of jobs that wait no more."""
    Waiter.objects.using(db.database).filter(job__in=ids)._raw_delete(db.database)


def forget_gone_waiters(db: Dialect, ids: Sequence[str]) -> bool:
    """Delete the rows of those of some jobs that are blocked no more, if any is."""
    live = LiveJob.objects.using(db.database).filter(id__in=ids, hold=HOLD)
    left = {str(id) for id in live.values_list("id", flat=True)}
    gone = [id for id in ids if id not in left]
    forget_waiters(db, gone)
    return bool(gone)


def free_abandoned(db: Dialect, *, limit: int) -> list[str]:
    """Free places whose claim holds no job any more; give back their keys."""
    rows = Slot.objects.using(db.database)
    held = LiveJob.objects.using(db.database).filter(
        id=OuterRef("job"), claim=OuterRef("claim"), node__isnull=False
    )
    abandoned = rows.filter(~Exists(held)).values_list("job", "claim")[:limit]
    return vacate(db, [(str(job), claim) for job, claim in abandoned])


def paused(db: Dialect, names: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Which of some (backend, queue) are paused."""
    rows = Queue.objects.using(db.database).paused()
    rows = rows.filter(name__in={name for _alias, name in names})
    return names & set(rows.values_list("backend_alias", "name"))
