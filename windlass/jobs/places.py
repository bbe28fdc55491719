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
    """
    Which places jobs should take, first come first; and what each of the others lacks.

    Of a key in ``free`` only those places are given.
    """
    places: list[Place] = []
    full: dict[str, Want] = {}
    own = free or {}
    for job in jobs:
        lacks = [
            want
            for want in wants[job.id]
            if len(held.get(want.key, ())) >= want.limit
            or (want.key in own and not own[want.key])
        ]
        if lacks:
            full[job.id] = lacks[0]
            continue
        for want in wants[job.id]:
            numbers = held.setdefault(want.key, set())
            number = own[want.key].pop() if want.key in own else _a_free_one(numbers)
            numbers.add(number)
            places.append(Place(want.key, number, job.id, job.claim))
    return places, full


def is_single(wants: Sequence[Want]) -> bool:
    """Whether a job needs one slot only, of a key that has no other."""
    return len(wants) == 1 and wants[0].limit == 1


def plan_single(
    jobs: Sequence[Claimed], wants: Wants
) -> tuple[list[Place], dict[str, Want]]:
    """``plan`` for jobs that need a single slot each, if nothing is held."""
    places: dict[str, Place] = {}
    full: dict[str, Want] = {}
    for job in jobs:
        want = wants[job.id][0]
        if want.key in places:
            full[job.id] = want
        else:
            places[want.key] = Place(want.key, 0, job.id, job.claim)
    return list(places.values()), full


def _a_free_one(numbers: set[int]) -> int:
    count = len(numbers)
    if count not in numbers:
        return count
    return next(number for number in range(count) if number not in numbers)
