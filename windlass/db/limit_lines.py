"""
Who stands in line for the keys of concurrency limits: for people who look.

Keys are found by one seek each and counts stop at a number that is given, so a page of
keys costs the same beside a million jobs that wait. Nothing is locked or changed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db.models import Exists, OuterRef

from windlass.db.base import Dialect
from windlass.models.jobs import LiveJob
from windlass.models.limits import Slot, Waiter
from windlass.models.queues import Queue

# One statement asks about so many keys: SQLite has a limit for them.
AT_ONCE = 50
_NEXT = "(SELECT MIN({key}) FROM {table} WHERE {key} {after})"
KEYS = f"""
    WITH RECURSIVE found (name, place) AS (
      SELECT {_NEXT.replace("{after}", ">= %s")}, 1
      UNION ALL
      SELECT {_NEXT.replace("{after}", "> found.name")}, place + 1 FROM found
       WHERE found.name IS NOT NULL AND place < %s)
    SELECT name FROM found WHERE name IS NOT NULL
"""
# In the order of the index, or the first so many would be looked for in the table.
LINE = """
    SELECT {place}, (SELECT COUNT(*) FROM (
              SELECT 1 FROM windlass_slot WHERE {key} = %s LIMIT %s) held),
           (SELECT COUNT(*) FROM (
              SELECT 1 FROM windlass_waiter WHERE {key} = %s
               ORDER BY nice, enqueued_at, job LIMIT %s) waiting),
           (SELECT job FROM windlass_waiter WHERE {key} = %s
             ORDER BY nice, enqueued_at, job LIMIT 1)
"""


class Line(NamedTuple):
    """A key: how many hold a place of it and wait for one, and who is next."""

    key: str
    held: int
    waiting: int
    next: UUID | None = None
    # When the next was enqueued, and whether its queue is paused.
    since: datetime | None = None
    is_paused: bool = False


def waiting_keys(db: Dialect, *, begin: str = "", limit: int) -> list[str]:
    """Up to so many keys for which jobs wait, in order, from one on."""
    return _keys(db, "windlass_waiter", begin, limit)


def keys_in_use(db: Dialect, *, begin: str = "", limit: int) -> list[str]:
    """Up to so many keys that jobs hold or wait for, in order, from one on."""
    held = _keys(db, "windlass_slot", begin, limit)
    return sorted({*held, *waiting_keys(db, begin=begin, limit=limit)})[:limit]


def lines(db: Dialect, keys: Sequence[str], *, most: int) -> list[Line]:
    """The lines for some keys, counting up to ``most`` each."""
    found = [
        line
        for start in range(0, len(keys), AT_ONCE)
        for line in _counted(db, keys[start : start + AT_ONCE], most)
    ]
    heads = [line.next for line in found if line.next]
    waiters = Waiter.objects.using(db.database).filter(job__in=heads)
    since = dict(waiters.values_list("job", "enqueued_at"))
    paused = _paused(db, heads)
    return [
        line._replace(since=since.get(line.next), is_paused=line.next in paused)
        if line.next
        else line
        for line in found
    ]


def without_claim(db: Dialect) -> int:
    """How many places belong to no claim that holds a job: any sweep frees them."""
    held = LiveJob.objects.filter(id=OuterRef("job"), claim=OuterRef("claim"))
    slots = Slot.objects.using(db.database)
    return slots.filter(~Exists(held.filter(node__isnull=False))).count()


def held_by_others(db: Dialect, nodes: Collection[int]) -> int:
    """How many places are held by nodes that are not among these."""
    held = LiveJob.objects.filter(id=OuterRef("job"), claim=OuterRef("claim"))
    others = held.filter(node__isnull=False).exclude(node__in=nodes)
    return Slot.objects.using(db.database).filter(Exists(others)).count()


def _keys(db: Dialect, table: str, begin: str, limit: int) -> list[str]:
    key = db.connection.ops.quote_name("key")
    with db.connection.cursor() as cursor:
        cursor.execute(KEYS.format(key=key, table=table), [begin, limit])
        return [name for (name,) in cursor.fetchall() if name]


def _counted(db: Dialect, keys: Sequence[str], most: int) -> list[Line]:
    name = db.connection.ops.quote_name("key")
    arms = [LINE.format(place=place, key=name) for place in range(len(keys))]
    values = [value for key in keys for value in (key, most, key, most, key)]
    with db.connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(arms), values)
        rows = sorted(cursor.fetchall())
    return [
        Line(keys[place], held, waiting, UUID(str(head)) if head else None)
        for place, held, waiting, head in rows
    ]


def _paused(db: Dialect, ids: Sequence[UUID]) -> set[UUID]:
    jobs = LiveJob.objects.using(db.database).filter(id__in=ids)
    rows = list(jobs.values_list("id", "backend_alias", "queue_name"))
    paused = Queue.objects.using(db.database).paused()
    paused = paused.filter(name__in={name for _id, _alias, name in rows})
    found = set(paused.values_list("backend_alias", "name"))
    return {id for id, *queue in rows if tuple(queue) in found}
