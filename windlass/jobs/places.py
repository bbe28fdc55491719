"""
Which places of which keys jobs should take: the rule of concurrency limits, alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from windlass.db import Claimed, Place
from windlass.db.slots import Taken


class Want(NamedTuple):
    """A key of which a job needs a slot."""

    key: str
    limit: int
    on_conflict: str


Wants = dict[str, list[Want]]
# Places of keys that whoever plans has freed, and that nobody else can take.
Free = dict[str, list[int]]


def keys_of(jobs: Sequence[Claimed], wants: Wants) -> list[str]:
    """All keys of some jobs, in their order."""
    return sorted({want.key for job in jobs for want in wants[job.id]})


def plan(
    jobs: Sequence[Claimed], wants: Wants, held: Taken, free: Free | None = None
) -> tuple[list[Place], dict[str, Want]]:
    """Which free places jobs should take, first come first; and what others lack."""
    places: list[Place] = []
    full: dict[str, Want] = {}
    for job in jobs:
        lacks = [w for w in wants[job.id] if len(held.get(w.key, ())) >= w.limit]
        if lacks:
            full[job.id] = lacks[0]
            continue
        for want in wants[job.id]:
            numbers = held.setdefault(want.key, set())
            own = free.get(want.key) if free else None
            number = own.pop() if own else _a_free_one(numbers)
            numbers.add(number)
            places.append(Place(want.key, number, job.id, job.claim))
    return places, full


def _a_free_one(numbers: set[int]) -> int:
    count = len(numbers)
    if count not in numbers:
        return count
    return next(number for number in range(count) if number not in numbers)
