"""
Concurrency limits: of the jobs of a key, so many run at the same time.

It is decided after the claim, for a batch at a time: a job takes a slot of each of its
keys, or is blocked until one is free. Whoever ends a job frees its slots in the same
transaction and hands each on to the next that waits, by claiming that very job; so a
busy key moves at the speed of its jobs, and nobody polls. What dies on the way leaves
slots that belong to no claim; ``sweep`` frees those.

Limits are read from the code when they are needed, so a change reaches jobs that wait.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from windlass.db import Claimed, Dialect, slots
from windlass.jobs import lifecycle, rates, resolving
from windlass.jobs.keys import MOST_AT_ONCE, limits_of
from windlass.jobs.policies import REFUSED

# In the policy of a job that has limits.
MARK = '"limits"'
# How often one looks again before a job is blocked, or a waiter found.
TRIES = 5
# Keys that a sweep looks at, and waiters of one key that it wakes.
BATCH = 200

Takes = Callable[[Claimed], bool]


class Want(NamedTuple):
    """A key of which a job needs a slot."""

    key: str
    limit: int
    on_conflict: str


Wants = dict[str, list[Want]]


class Limits:
    """The limits of one backend's jobs: of their tasks, and of whole queues."""

    def __init__(self, backend_alias: str, queue_limits: Mapping[str, int]) -> None:
        self.backend_alias, self.queue_limits = backend_alias, queue_limits

    def concern(self, job: Claimed) -> bool:
        """Whether a job may have limits."""
        has_own = job.policy is not None and MARK in job.policy
        return has_own or job.queue_name in self.queue_limits

    def wants(self, job: Claimed) -> list[Want]:
        """The slots that a job needs, in the order of their keys."""
        found = {}
        if job.policy is not None and MARK in job.policy:
            task = resolving.find(job.task_path)
            rules = limits_of(task.func) if task is not None else ()
            keys = json.loads(job.policy)["limits"]
            for key, rule in zip(keys, rules, strict=False):
                if key:
                    found[key] = Want(key, rule.limit, rule.on_conflict)
        if job.queue_name in self.queue_limits:
            key = f"queue {job.backend_alias}/{job.queue_name}"
            found[key] = Want(key, self.queue_limits[job.queue_name], "block")
        return sorted(found.values())

    def limit_of(self, job: Claimed, key: str) -> int:
        """How many may run beside a job; one that wants the key no more may always."""
        limits = [want.limit for want in self.wants(job) if want.key == key]
        return limits[0] if limits else MOST_AT_ONCE

    def admit(self, db: Dialect, node: int, jobs: Sequence[Claimed]) -> list[Claimed]:
        """
        Give back those of some held jobs that have their slots; block the others.

        One that is to be discarded instead is among them, with a policy that says so.
        """
        wants = {job.id: self.wants(job) for job in jobs if self.concern(job)}
        limited = [job for job in jobs if wants.get(job.id)]
        if not limited:
            return list(jobs)
        held = slots.taken(db, _keys(limited, wants))
        full, missed = _occupy(db, limited, wants, held)
        away: dict[str, Want] = {}
        if full or missed:
            with db.transaction():
                slots.begin_writing(db)
                rest = [job for job in limited if job.id in full or job.id in missed]
                away = _turn_away(db, node, rest, wants)
        admitted = []
        for job in jobs:
            if job.id not in away:
                admitted.append(job)
            elif away[job.id].on_conflict == "discard":
                admitted.append(job._replace(policy=REFUSED))
        return admitted

    def release(
        self, db: Dialect, node: int, jobs: Iterable[Claimed], *, takes: Takes
    ) -> list[Claimed]:
        """
        Free the slots of jobs that this node holds no more; hand them on.

        Gives back jobs that this node holds now: those that waited and that ``takes``
        lets it have. Others become ready, for whoever serves their queue.
        """
        ended = [job for job in jobs if self.concern(job)]
        if not ended:
            return []
        with db.transaction():
            slots.begin_writing(db)
            keys = slots.vacate(db, [(job.id, job.claim) for job in ended])
            return self._hand_on(db, node, keys, takes) if keys else []

    def _hand_on(
        self, db: Dialect, node: int, keys: Sequence[str], takes: Takes
    ) -> list[Claimed]:
        handed_on: list[Claimed] = []
        freed: Mapping[str, int] = Counter(keys)
        for _try in range(TRIES):
            waiting, jobs = _next_in_line(db, freed)
            line = [jobs[id] for id, _key in waiting if id in jobs]
            if not line:
                break
            wants = {job.id: self.wants(job) for job in line}
            places, full = _plan(line, wants, slots.taken(db, _keys(line, wants)))
            mine = self._mine(db, [job for job in line if job.id not in full], takes)
            # They will be held by their next claim.
            ours = [p._replace(claim=p.claim + 1) for p in places if p.job in mine]
            got = slots.occupy(db, ours) if ours else set()
            lost = {p.job: p.claim for p in ours if (p.key, p.job) not in got}
            if lost:
                slots.vacate(db, lost.items())
            if mine.keys() - lost.keys():
                taken = [job for id, job in mine.items() if id not in lost]
                handed_on += lifecycle.hand_on(db, node, taken)
            others = [j.id for j in line if j.id not in full and j.id not in mine]
            if others or lost:
                lifecycle.unblock(db, [*others, *lost])
            moved = {
                id: full[id].key
                for id, key in waiting
                if id in full and full[id].key != key
            }
            if not moved:
                break
            # What they lack by now is something else, so their place is for the next.
            slots.wait_for_others(db, moved)
            freed = Counter(key for id, key in waiting if id in moved)
        return handed_on

    def _mine(
        self, db: Dialect, line: Sequence[Claimed], takes: Takes
    ) -> dict[str, Claimed]:
        paused = slots.paused(db, {(job.backend_alias, job.queue_name) for job in line})
        return {
            job.id: job
            for job in line
            if job.backend_alias == self.backend_alias
            and (job.backend_alias, job.queue_name) not in paused
            and not rates.are_limited([job])
            and takes(job)
        }

    def wake(self, db: Dialect, key: str) -> None:
        """Make jobs that wait for a key ready, as many as it has room for."""
        with db.transaction():
            slots.begin_writing(db)
            held = slots.taken(db, [key], lock=True).get(key, ())
            _waiting, heads = _next_in_line(db, {key: 1})
            limit = max((self.limit_of(job, key) for job in heads.values()), default=0)
            if limit > len(held):
                most = min(limit - len(held), BATCH)
                waiters = slots.next_waiters(db, {key: most})
                lifecycle.unblock(db, [id for id, _key in waiters])

    def sweep(self, db: Dialect, *, after: str) -> str:
        """
        Free what died with its slot, and wake who waits although there is room.

        Looks at some of the keys that are waited for, beyond the one it was given;
        gives back where to go on.
        """
        for key in sorted(set(slots.free_abandoned(db, limit=BATCH))):
            self.wake(db, key)
        keys = slots.waiting_keys(db, after=after, limit=BATCH)
        if not keys:
            return ""
        held = slots.taken(db, keys)
        heads = slots.next_waiters(db, dict.fromkeys(keys, 1))
        found = slots.blocked(db, [id for id, _key in heads], lock=False)
        jobs = {job.id: job for job in found}
        for id, key in heads:
            job = jobs.get(id)
            # One that is blocked no more is for wake() to find out about.
            if job is None or len(held.get(key, ())) < self.limit_of(job, key):
                self.wake(db, key)
        return keys[-1]


def _keys(jobs: Sequence[Claimed], wants: Wants) -> list[str]:
    return sorted({want.key for job in jobs for want in wants[job.id]})


def _first_free(numbers: set[int]) -> int:
    return next(number for number in range(len(numbers) + 1) if number not in numbers)


def _plan(
    jobs: Sequence[Claimed], wants: Wants, held: slots.Taken
) -> tuple[list[slots.Place], dict[str, Want]]:
    """Which free places jobs should take, first come first; and what others lack."""
    places: list[slots.Place] = []
    full: dict[str, Want] = {}
    for job in jobs:
        lacks = [w for w in wants[job.id] if len(held.get(w.key, ())) >= w.limit]
        if lacks:
            full[job.id] = lacks[0]
            continue
        for want in wants[job.id]:
            numbers = held.setdefault(want.key, set())
            number = _first_free(numbers)
            numbers.add(number)
            places.append(slots.Place(want.key, number, job.id, job.claim))
    return places, full


def _occupy(
    db: Dialect, jobs: Sequence[Claimed], wants: Wants, held: slots.Taken
) -> tuple[dict[str, Want], dict[str, Want]]:
    """
    Take slots for jobs, in the order of the jobs, knowing which are held.

    Gives back what the others lack: because its key was full, or because somebody
    else was faster.
    """
    places, full = _plan(jobs, wants, held)
    got = slots.occupy(db, places) if places else set()
    lost = {place.job: place for place in places if (place.key, place.job) not in got}
    if lost:
        slots.vacate(db, [(place.job, place.claim) for place in lost.values()])
    missed = {
        id: next(want for want in wants[id] if want.key == place.key)
        for id, place in lost.items()
    }
    return full, missed


def _turn_away(
    db: Dialect, node: int, jobs: Sequence[Claimed], wants: Wants
) -> dict[str, Want]:
    """Block those of some jobs that really get no slot; give back what they lack."""
    away: dict[str, Want] = {}
    missed: dict[str, Want] = {}
    left = list(jobs)
    for _try in range(TRIES):
        # Who holds these cannot leave unseen any more.
        held = slots.taken(db, _keys(left, wants), lock=True)
        full, missed = _occupy(db, left, wants, held)
        away |= full
        left = [job for job in left if job.id in missed]
        if not left:
            break
    away |= {job.id: missed[job.id] for job in left}
    blocked = [
        (job, away[job.id].key)
        for job in jobs
        if job.id in away and away[job.id].on_conflict == "block"
    ]
    if blocked:
        lifecycle.divert(db, node, blocked)
    return away


def _next_in_line(
    db: Dialect, most: Mapping[str, int]
) -> tuple[list[tuple[str, str]], dict[str, Claimed]]:
    """Who waits for some keys, in order, and the jobs of those that nobody else has."""
    waiting: list[tuple[str, str]] = []
    jobs: dict[str, Claimed] = {}
    for _try in range(TRIES):
        waiting = slots.next_waiters(db, most)
        if not waiting:
            break
        ids = [id for id, _key in waiting]
        jobs = {job.id: job for job in slots.blocked(db, ids)}
        gone = [id for id in ids if id not in jobs]
        if not gone or not slots.forget_gone_waiters(db, gone):
            break
    return waiting, jobs
