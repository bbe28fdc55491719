"""
PostgreSQL: the slots of a whole batch in one statement each, prepared.

``TO_VACATE`` and ``LINE`` must stay two: the second has to see what was committed
while the first waited for a lock, and a statement sees what was there when it began.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from windlass.db.due import SPAN
from windlass.db.postgresql import PostgreSQL
from windlass.db.records import CLAIMED_COLUMNS, Claimed
from windlass.db.slots import HOLD, Hold, Place, Slots, Taken, Waiting, grouped

# JSON, because the driver takes long to say arrays.
_PLACES = """
    (SELECT x->>0 AS key, (x->>1)::int AS number, (x->>2)::uuid AS job,
            (x->>3)::int AS claim FROM jsonb_array_elements(%s::jsonb) x)
"""
_JOB = ", ".join("job." + name for name in CLAIMED_COLUMNS)

TAKEN = """
    SELECT key, number FROM windlass_slot
     WHERE key = ANY(ARRAY(SELECT jsonb_array_elements_text(%s::jsonb)))
"""
LOCKED = TAKEN + " ORDER BY key, number FOR UPDATE"
OCCUPY = f"""
    INSERT INTO windlass_slot (key, number, job, claim) SELECT * FROM {_PLACES} p
    ON CONFLICT (key, number) DO NOTHING
"""
# OFFSET keeps this a question for each place: as a join it might change their order.
OCCUPY_ALONE = f"""
    INSERT INTO windlass_slot (key, number, job, claim) SELECT * FROM {_PLACES} p
     WHERE NOT EXISTS (SELECT FROM windlass_slot slot
                        WHERE slot.key = p.key AND slot.number <> p.number OFFSET 0)
    ON CONFLICT (key, number) DO NOTHING
"""
HOLDERS = """
    SELECT key, number, job::text, claim FROM windlass_slot
     WHERE key = ANY(ARRAY(SELECT jsonb_array_elements_text(%s::jsonb)))
"""
VACATE = """
    WITH hold AS MATERIALIZED (
      SELECT x->>0 AS key, (x->>1)::uuid AS job, (x->>2)::int AS claim
        FROM jsonb_array_elements(%s::jsonb) x),
    held AS MATERIALIZED (
      SELECT slot.ctid FROM hold JOIN windlass_slot slot USING (key, job, claim)
       ORDER BY key, number FOR UPDATE OF slot)
    DELETE FROM windlass_slot WHERE ctid = ANY(ARRAY(SELECT ctid FROM held))
    RETURNING key, number
"""
DIVERT = f"""
    WITH lacking AS (SELECT * FROM unnest(%s::uuid[], %s::int[], %s::text[])
                                   l (job, claim, key)),
    diverted AS (
      UPDATE windlass_live live
         SET node = NULL, started_at = NULL, hold = '{HOLD}', attempts = attempts - 1,
             available_at = available_at + interval '{SPAN.days * 24} hours'
        FROM lacking WHERE live.id = lacking.job AND live.claim = lacking.claim
         AND live.node = %s AND live.id = ANY(ARRAY(SELECT job FROM lacking))
      RETURNING live.id, key, nice, enqueued_at)
    INSERT INTO windlass_waiter (job, key, nice, enqueued_at) SELECT * FROM diverted
    ON CONFLICT DO NOTHING
"""
SOMEBODY_WAITS = "SELECT EXISTS (SELECT FROM windlass_waiter)"
NEXT = """
    SELECT waiter.job::text, waiter.key
      FROM (SELECT x->>0 AS key, (x->>1)::int AS most
              FROM jsonb_array_elements(%s::jsonb) x) wanted CROSS JOIN LATERAL (
        SELECT job, key FROM windlass_waiter WHERE key = wanted.key
         ORDER BY nice, enqueued_at, job LIMIT wanted.most) waiter
"""
LINE = f"""
    SELECT waiter.key, waiter.job::text,
           ARRAY(SELECT number FROM windlass_slot WHERE key = waiter.key), blocked.*
      FROM (SELECT x->>0 AS key, (x->>1)::int AS most
              FROM jsonb_array_elements(%s::jsonb) x
             WHERE EXISTS (SELECT FROM windlass_waiter)) wanted CROSS JOIN LATERAL (
        SELECT job, key FROM windlass_waiter WHERE key = wanted.key
         ORDER BY nice, enqueued_at, job LIMIT wanted.most) waiter
      LEFT JOIN LATERAL (
        SELECT EXISTS (SELECT FROM windlass_queue queue
                        WHERE queue.backend_alias = job.backend_alias
                          AND queue.name = job.queue_name AND paused_at IS NOT NULL),
               {_JOB.replace("job.id", "job.id::text", 1)}
          FROM windlass_live job WHERE job.id = waiter.job AND hold = '{HOLD}'
           AND node IS NULL FOR UPDATE OF job SKIP LOCKED) blocked ON TRUE
"""
HAND_ON = f"""
    WITH wanted AS (SELECT * FROM {_PLACES} w),
    got AS (
      INSERT INTO windlass_slot (key, number, job, claim) SELECT * FROM wanted
      ON CONFLICT (key, number) DO NOTHING RETURNING key, job),
    lost AS (
      SELECT job FROM wanted WHERE (key, job) NOT IN (SELECT key, job FROM got)),
    handed AS (
      SELECT job FROM unnest(%s::uuid[]) job WHERE job NOT IN (SELECT job FROM lost)),
    gone AS (DELETE FROM windlass_waiter WHERE job = ANY(ARRAY(SELECT * FROM handed)))
    UPDATE windlass_live
       SET node = %s, started_at = statement_timestamp(), hold = '',
           available_at = statement_timestamp(), attempts = attempts + 1,
           claim = claim + 1
     WHERE id = ANY(ARRAY(SELECT * FROM handed)) RETURNING id::text, available_at
"""


class PostgreSQLSlots(Slots):
    """See ``Slots``."""

    db: PostgreSQL

    def taken(self, keys: Sequence[str], *, lock: bool = False) -> Taken:
        """Which places of keys are held; ``lock`` keeps others from freeing them."""
        return grouped(self.db._all(LOCKED if lock else TAKEN, (json.dumps(keys),)))

    def occupy(self, places: Sequence[Place]) -> set[str]:
        """Take places; give back the jobs that missed one because it was taken."""
        return self._occupy(OCCUPY, places)

    def occupy_alone(self, places: Sequence[Place]) -> set[str]:
        """Take a place of each of some keys, unless any of that key is taken."""
        return self._occupy(OCCUPY_ALONE, places)

    def _occupy(self, sql: str, places: Sequence[Place]) -> set[str]:
        # In order, so that two who want several never wait for each other.
        taken = self.db._count(sql, (json.dumps(sorted(places)),))
        if taken == len(places):
            return set()
        keys = json.dumps([place.key for place in places])
        holders = set(self.db._all(HOLDERS, (keys,)))
        return {place.job for place in places if place not in holders}

    def vacate(self, holds: Iterable[Hold]) -> list[tuple[str, int]]:
        """Free the places of some claims; give back the key and number of each."""
        return list(self.db._all(VACATE, (json.dumps(list(holds)),)))

    def divert(self, node: int, jobs: Sequence[tuple[Claimed, str]]) -> None:
        """Let held jobs wait for the key that each lacks, as if never claimed."""
        lacking = _columns((job.id, job.claim, key) for job, key in jobs)
        self.db._count(DIVERT, (*lacking, node))

    def next_waiters(self, most: Mapping[str, int]) -> list[tuple[str, str]]:
        """The (job, key) of up to so many that wait for each key, in their order."""
        return list(self.db._all(NEXT, (json.dumps(list(most.items())),)))

    def somebody_waits(self) -> bool:
        """Whether any job waits for any key."""
        return bool(self.db._all(SOMEBODY_WAITS, ())[0][0])

    def line(self, most: Mapping[str, int]) -> tuple[list[Waiting], Taken]:
        """Who is next for some keys, their jobs locked; and which places are held."""
        line, taken = [], {}
        rows = self.db._all(LINE, (json.dumps(list(most.items())),))
        for key, id, numbers, is_paused, *job in rows:
            taken[key] = set(numbers)
            claimed = None if is_paused is None else Claimed._make(job)
            line.append(Waiting(key, id, claimed, bool(is_paused)))
        return line, taken

    def hand_on(
        self, node: int, jobs: Sequence[Claimed], places: Sequence[Place]
    ) -> list[Claimed]:
        """Let a node hold jobs that waited, where all their places are free."""
        ids = [job.id for job in jobs]
        rows = self.db._all(HAND_ON, (json.dumps(sorted(places)), ids, node))
        moments = dict(rows)
        return [
            job._replace(available_at=moments[job.id])
            for job in jobs
            if job.id in moments
        ]


def _columns(rows: Iterable[Sequence[object]], count: int = 0) -> list[list[object]]:
    columns = [list(column) for column in zip(*rows, strict=True)]
    return columns or [[] for _ in range(count)]
