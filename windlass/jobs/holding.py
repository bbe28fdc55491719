"""
The rest of the lifecycle: the verbs of blocked jobs, which wait for no time.

They wait for a slot of a key, or for other jobs. Whoever follows those jobs says the
verbs here itself, so no follower is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from windlass.db import (
    Claimed,
    Dialect,
    NewJob,
    Place,
    cancels,
    holds,
    rare,
    slots_of,
)
from windlass.models.jobs import ENDS, Reason, State


def block(db: Dialect, ids: Sequence[str], hold: str) -> set[str]:
    """Make ready or scheduled jobs wait for something other than time."""
    return rare.hold(db, ids, hold=hold)


def divert(db: Dialect, node: int, jobs: Sequence[tuple[Claimed, str]]) -> None:
    """Let held jobs wait for a slot of the key that each lacks; no attempt is spent."""
    slots_of(db).divert(node, jobs)


def hand_on(
    db: Dialect, node: int, jobs: Sequence[Claimed], places: Sequence[Place]
) -> list[Claimed]:
    """Let a node hold jobs that waited and that got all their slots: see ``Slots``."""
    return slots_of(db).hand_on(node, jobs, places)


def unblock(db: Dialect, ids: Sequence[str]) -> set[str]:
    """Make blocked jobs ready."""
    return rare.unhold(db, ids)


def enqueue_blocked(db: Dialect, jobs: Sequence[NewJob], hold: str) -> datetime:
    """Store jobs that wait for something else than a time; give back the moment."""
    return holds.store(db, jobs, hold)


def let_go(
    db: Dialect, hold: str, ids: Sequence[str], changes: Sequence[holds.Change] = ()
) -> set[str]:
    """Make jobs ready that a hold blocked, some of them with another call."""
    return holds.let_go(db, hold, ids, changes)


def drop(
    db: Dialect, ids: Sequence[str], *, why: str, skip_locked: bool = False
) -> set[str]:
    """Cancel waiting jobs for what became of others; perhaps not what is locked."""
    end = {"state": State.CANCELLED, "reason": Reason.CANCELLED}
    return rare.end_waiting(db, ids, **end, why=why, skips=skip_locked)


def repeat(db: Dialect, ids: Sequence[str], hold: str) -> set[str]:
    """Let ended jobs live again, whatever became of them, once a hold lets them go."""
    with transaction.atomic(using=db.database):
        revived = rare.revive(db, ids, states=ENDS, hold=hold)
        if revived:
            cancels.forget_cancels(db, list(revived))
    return revived
