"""
Handing a slot on: from jobs that ended to the next that wait for their keys.

It happens in the transaction that records the ends. A slot goes to one job, and behind
it to a short chain of the key's next jobs, if they are quick: they are that key's next
jobs anyway, the worker runs them one after another, and the database is asked once.
The slot's row names the last of them, so it is held until all have ended.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from windlass.db import Claimed, Dialect, Place, slots_of
from windlass.db.slots import Hold, Taken, Waiting
from windlass.jobs import lifecycle, rates
from windlass.jobs.places import Free, Want, Wants, keys_of, plan

# How often one looks again for a waiter that is still there.
TRIES = 5


class Taker(Protocol):
    """A worker that frees slots, and what it may be given with them."""

    def takes(self, job: Claimed) -> bool:
        """Whether it may hold a job that waited."""

    def follows(self, job: Claimed) -> bool:
        """Whether a job may wait in its memory for the one before it to end."""

    def length(self, places: int) -> int:
        """How many jobs of each of some slots it may hold at once."""


class Nobody:
    """Takes nothing, so what waited becomes ready."""

    def takes(self, job: Claimed) -> bool:
        """See ``Taker``."""
        return False

    def follows(self, job: Claimed) -> bool:
        """See ``Taker``."""
        return False

    def length(self, places: int) -> int:
        """See ``Taker``."""
        return 1


class Limited(Protocol):
    """What knows the limits of one backend's jobs."""

    backend_alias: str

    def wants_of(self, jobs: Sequence[Claimed]) -> Wants:
        """The slots that each of some jobs needs."""


def hand_on(
    limits: Limited, db: Dialect, node: int, free: Free, taker: Taker
) -> list[list[Claimed]]:
    """
    Give free places to those that wait for their keys; let a node hold some of them.

    Gives back chains of jobs that the node holds now, each to be run in its order, one
    at a time. Others that got their turn are ready, for whoever serves their queue.
    """
    found: list[list[Claimed]] = []
    for _try in range(TRIES):
        length = taker.length(sum(map(len, free.values())))
        most = {key: length * len(numbers) for key, numbers in free.items()}
        line, held = in_line(db, most)
        jobs = [waiting.job for waiting in line if waiting.job is not None]
        if not jobs:
            break
        wants = limits.wants_of(jobs)
        others = set(keys_of(jobs, wants)) - held.keys()
        if others:
            held |= slots_of(db).taken(sorted(others))
        places, full = plan(jobs, wants, held, free)
        may = {
            w.id for w in line if w.job and wants[w.id] and _is_for(w, limits, taker)
        }
        heads = [job for job in jobs if job.id not in full and job.id in may]
        chains = [[head] for head in heads]
        behind = [waiting for waiting in line if waiting.id in full]
        _follow(chains, behind, wants, may, taker, length)
        taken = _take(db, node, chains, places)
        found += taken
        handed = {chain[0].id for chain in taken}
        ready = {job.id for job in jobs} - full.keys() - handed
        if ready:
            lifecycle.unblock(db, sorted(ready))
        free = _step_aside(db, [w for w in line if w.id in full], full, free)
        if not free:
            break
    return found


def _step_aside(
    db: Dialect, line: Sequence[Waiting], full: Mapping[str, Want], free: Free
) -> Free:
    """Let those that lack another key by now wait for that; what is free for others."""
    moved = {w.id: full[w.id].key for w in line if full[w.id].key != w.key}
    if moved:
        slots_of(db).wait_for_others(moved)
    keys = {waiting.key for waiting in line if waiting.id in moved}
    return {key: free[key] for key in keys if free[key]}


def _is_for(waiting: Waiting, limits: Limited, taker: Taker) -> bool:
    """Whether a job may be held by the node that frees slots."""
    job = waiting.job
    if job is None or waiting.is_paused or rates.are_limited([job]):
        return False
    return job.backend_alias == limits.backend_alias and taker.takes(job)


def in_line(db: Dialect, most: Mapping[str, int]) -> tuple[list[Waiting], Taken]:
    """Who is next for some keys, without those that are not blocked any more."""
    line: list[Waiting] = []
    held: Taken = {}
    for _try in range(TRIES):
        if not most:
            break
        line, held = slots_of(db).line(most)
        gone = [waiting.id for waiting in line if waiting.job is None]
        if not gone or not slots_of(db).forget_gone_waiters(gone):
            break
    return line, held


def _follow(
    chains: Sequence[list[Claimed]],
    line: Sequence[Waiting],
    wants: Wants,
    may: Collection[str],
    taker: Taker,
    length: int,
) -> None:
    """Put those that found their key full behind those that did not, in their order."""
    by_key: dict[str, list[list[Claimed]]] = {}
    for chain in chains:
        keys = [want.key for want in wants[chain[0].id]]
        if len(keys) == 1 and taker.follows(chain[0]):
            by_key.setdefault(keys[0], []).append(chain)
    for waiting in line:
        job = waiting.job
        shortest = min(by_key.get(waiting.key, ()), key=len, default=None)
        if job is None or shortest is None:
            continue
        if [want.key for want in wants[job.id]] != [waiting.key]:
            continue
        if job.id in may and taker.follows(job) and len(shortest) < length:
            shortest.append(job)
        else:
            # Nobody overtakes the first that may not.
            del by_key[waiting.key]


def _take(
    db: Dialect, node: int, chains: Sequence[Sequence[Claimed]], places: Sequence[Place]
) -> list[list[Claimed]]:
    if not chains:
        return []
    # As their next claims will be.
    ours = [
        [job._replace(claim=job.claim + 1, attempts=job.attempts + 1) for job in chain]
        for chain in chains
    ]
    last = {chain[0].id: chain[-1] for chain in ours}
    wanted = [
        place._replace(job=last[place.job].id, claim=last[place.job].claim)
        for place in places
        if place.job in last
    ]
    jobs = [job for chain in ours for job in chain]
    taken = {job.id: job for job in lifecycle.hand_on(db, node, jobs, wanted)}
    lost = [p for p in wanted if p.job not in taken]
    if lost:
        slots_of(db).vacate(Hold(p.key, p.job, p.claim) for p in lost)
    return [[taken[job.id] for job in chain] for chain in ours if chain[-1].id in taken]
