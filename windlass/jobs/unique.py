"""
Unique jobs: of all that have not ended, at most one has a key.

The database says so, by a unique index, so producers on any number of hosts agree. A
key is held from enqueue to end, while scheduled, blocked, ready and running. A call
whose key is held is settled as its task says, and the job that holds it is looked up
after the insert: whoever won, both see the same one.
"""

from __future__ import annotations

from windlass.db import Dialect, NewJob
from windlass.exceptions import DuplicateJob
from windlass.jobs import lifecycle
from windlass.models.jobs import Reason

# A holder that ends between the insert and the look is no holder: try again.
TRIES = 20


def enqueue(
    db: Dialect, job: NewJob, key: str, on_conflict: str, *, notify: bool = True
) -> str:
    """Store a job unless its key is held; give back the id of the job to show."""
    for _try in range(TRIES):
        holder = lifecycle.enqueue_unique(db, job, key, notify=notify)
        if holder == job.id:
            return holder
        if holder is None:
            continue
        if on_conflict == "return_existing":
            return holder
        if on_conflict == "raise":
            raise DuplicateJob(
                f"{job.task_path} was not enqueued: the job {holder} holds its unique "
                f"key {key!r}. Nothing was stored."
            )
        is_replaced = on_conflict == "replace" and lifecycle.discard(
            db, [holder], reason=Reason.DUPLICATE
        )
        if not is_replaced:
            lifecycle.refuse(db, job, key, reason=Reason.DUPLICATE)
            return job.id
    raise DuplicateJob(
        f"{job.task_path} was not enqueued: jobs that this transaction cannot see hold "
        f"its unique key {key!r}. Nothing was stored."
    )
