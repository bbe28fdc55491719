"""
PostgreSQL: the hot path as few, wide, plan-proof statements.

The claim reads by lane with SKIP LOCKED and writes by ctid, touching no indexed
column, so every claim is a heap-only update. The end of a batch is one statement
that deletes from the hot table into the archive. Joins to the hot table name its
keys as an array as well, because a queue's table is often analysed while empty and
a cached plan then walks all of it.

The bound of a claim is ``statement_timestamp()``: it is stable, so an index can
use it, which ``clock_timestamp()`` is not.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

from windlass.db.records import (
    CLAIMED_COLUMNS,
    KEPT_COLUMNS,
    KEPT_OF_LIVE,
    NewJob,
)

NEW_COLUMNS = (
    "id, backend_alias, queue_name, nice, task_path, args, kwargs, max_attempts,"
    " metadata, policy, share, enqueued_at, available_at"
)
INSERT = f"""
    INSERT INTO windlass_live ({NEW_COLUMNS}) VALUES
    (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, statement_timestamp(),
     GREATEST(statement_timestamp(), %s::timestamptz)) RETURNING enqueued_at
"""
INSERT_AND_NOTIFY = f"""
    WITH job AS ({INSERT}) SELECT enqueued_at, pg_notify(%s, %s) FROM job
"""
COPY = """
    COPY windlass_live (id, backend_alias, queue_name, task_path, nice, args, kwargs,
      max_attempts, metadata, policy, share, enqueued_at, available_at) FROM STDIN
"""
INSERT_MANY = f"""
    WITH input AS (
      SELECT * FROM jsonb_array_elements(%s::jsonb) WITH ORDINALITY l (x, place)),
    stored AS (
      INSERT INTO windlass_live ({NEW_COLUMNS})
      SELECT (x->>0)::uuid, x->>1, x->>2, (x->>3)::smallint, x->>4, (x->>5)::jsonb,
             (x->>6)::jsonb, (x->>7)::smallint, (x->>8)::jsonb, (x->>9)::jsonb, x->>10,
             statement_timestamp() + place * interval '1 microsecond',
             GREATEST(statement_timestamp() + place * interval '1 microsecond',
                      (x->>11)::timestamptz)
        FROM input)
    SELECT statement_timestamp()
"""
LANES = """
    WITH RECURSIVE lane AS (
      (SELECT queue_name, nice FROM windlass_live WHERE backend_alias = %s
        ORDER BY queue_name, nice LIMIT 1)
      UNION ALL
      SELECT next.queue_name, next.nice FROM lane CROSS JOIN LATERAL (
        SELECT queue_name, nice FROM windlass_live WHERE backend_alias = %s
           AND (queue_name, nice) > (lane.queue_name, lane.nice)
         ORDER BY queue_name, nice LIMIT 1) next)
    SELECT queue_name, nice FROM lane
"""
CLAIM = f"""
    WITH lane AS (
      SELECT * FROM unnest(%s::text[], %s::smallint[], %s::timestamptz[],
                           %s::text[], %s::int[])
                    l (queue_name, nice, floor, share, most)
       WHERE NOT EXISTS (SELECT FROM windlass_queue WHERE backend_alias = %s
         AND name = l.queue_name AND paused_at IS NOT NULL)),
    pick AS MATERIALIZED (
      SELECT row FROM lane CROSS JOIN LATERAL (
        SELECT ctid AS row FROM windlass_live
         WHERE backend_alias = %s
           AND queue_name = lane.queue_name AND nice = lane.nice
           AND share = lane.share AND available_at > lane.floor
           AND available_at <= statement_timestamp() AND node IS NULL
         ORDER BY available_at LIMIT lane.most FOR UPDATE SKIP LOCKED) ready LIMIT %s)
    UPDATE windlass_live
       SET node = %s, started_at = statement_timestamp(),
           attempts = attempts + 1, claim = claim + 1
     WHERE ctid = ANY(ARRAY(SELECT row FROM pick))
    RETURNING {", ".join(CLAIMED_COLUMNS).replace("id,", "id::text,", 1)}
"""
_FENCE = """
      live.id = input.id AND live.claim = input.claim AND live.node = %s
      AND live.id = ANY(ARRAY(SELECT id FROM input))
"""
_KEPT = ", ".join(KEPT_COLUMNS)
FINISH = f"""
    WITH input AS MATERIALIZED (
      SELECT (x->>0)::uuid AS id, (x->>1)::int AS claim, x->>2 AS state,
             x->>3 AS reason, to_timestamp((x->>4)::float8) AS started_at,
             to_timestamp((x->>5)::float8) AS finished_at,
             (x->>6)::jsonb AS return_value, (x->>7)::jsonb AS history,
             (x->>8)::smallint AS attempt_back, (x->>9)::smallint AS crashed,
             (x->>10)::jsonb AS workspace
        FROM jsonb_array_elements(%s::jsonb) x),
    gone AS (DELETE FROM windlass_live live USING input WHERE {_FENCE}
      RETURNING {KEPT_OF_LIVE},
        live.attempts - input.attempt_back, live.crashes + input.crashed,
        input.state, input.reason, input.started_at, input.finished_at,
        input.return_value, COALESCE(input.history, live.history))
    INSERT INTO windlass_ended ({_KEPT}, attempts, crashes, state, reason,
        started_at, finished_at, return_value, history) SELECT * FROM gone
"""
PUT_BACK = f"""
    WITH input AS MATERIALIZED (
      SELECT (x->>0)::uuid AS id, (x->>1)::int AS claim, (x->>2)::float8 AS delay,
             (x->>3)::jsonb AS history, (x->>4)::smallint AS attempt_back,
             (x->>5)::smallint AS crashed, (x->>6)::jsonb AS workspace
        FROM jsonb_array_elements(%s::jsonb) x)
    UPDATE windlass_live live
       SET node = NULL, started_at = NULL,
           available_at = statement_timestamp() + input.delay * interval '1 second',
           attempts = live.attempts - input.attempt_back,
           crashes = live.crashes + input.crashed,
           history = COALESCE(input.history, live.history),
           workspace = COALESCE(input.workspace, live.workspace)
      FROM input WHERE {_FENCE}
    RETURNING live.id::text
"""
ADVANCE = f"""
    WITH input AS MATERIALIZED (
      SELECT (x->>0)::uuid AS id, (x->>1)::int AS claim, x->>2 AS task_path,
             (x->>3)::smallint AS max_attempts, (x->>4)::jsonb AS policy,
             (x->>5)::jsonb AS history, (x->>6)::jsonb AS workspace
        FROM jsonb_array_elements(%s::jsonb) x)
    UPDATE windlass_live live
       SET node = NULL, started_at = NULL, available_at = statement_timestamp(),
           task_path = input.task_path, attempts = 0,
           max_attempts = input.max_attempts, policy = input.policy,
           history = input.history, workspace = input.workspace
      FROM input WHERE {_FENCE}
    RETURNING live.id::text
"""
# A queue's table changes size by the second, so plans made from its statistics flip.
# Hash joins stay on: without them the fenced joins become quadratic.
TUNE = (
    "SET enable_seqscan = off; SET enable_bitmapscan = off;"
    " SET enable_mergejoin = off; SET jit = off"
)

BACKSLASH = "\\"
NULL = r"\N"
COPY_MARKS = {BACKSLASH: BACKSLASH * 2, "\t": r"\t", "\n": r"\n", "\r": r"\r"}


def copy_line(job: NewJob, moment: datetime) -> str:
    """One row of COPY's text format."""
    time_text = moment.isoformat()
    due = job.run_after
    due_text = time_text if due is None or due <= moment else due.isoformat()
    # A backslash is all that JSON text can hold of what COPY's format gives meaning.
    args, kwargs = job.args, job.kwargs
    if BACKSLASH in args:
        args = args.replace(BACKSLASH, BACKSLASH * 2)
    if BACKSLASH in kwargs:
        kwargs = kwargs.replace(BACKSLASH, BACKSLASH * 2)
    return (
        f"{job.id}\t{_copy_call(job.backend_alias, job.queue_name, job.task_path)}"
        f"\t{job.nice}\t{args}\t{kwargs}\t{job.max_attempts}"
        f"\t{_or_null(job.metadata)}\t{_or_null(job.policy)}\t{_escaped(job.share)}"
        f"\t{time_text}\t{due_text}\n"
    )


@lru_cache(maxsize=4096)
def _copy_call(*texts: str) -> str:
    return "\t".join(map(_escaped, texts))


def _escaped(text: str) -> str:
    for mark, code in COPY_MARKS.items():
        text = text.replace(mark, code)
    return text


def _or_null(text: str | None) -> str:
    return NULL if text is None else text.replace(BACKSLASH, BACKSLASH * 2)
