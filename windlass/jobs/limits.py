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
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from windlass.db import Claimed, Dialect, slots_of
from windlass.db.slots import Taken
from windlass.jobs import lifecycle, resolving
from windlass.jobs.handing_on import Taker, hand_on, in_line
from windlass.jobs.keys import MOST_AT_ONCE, limits_of
from windlass.jobs.places import Free, Want, Wants, keys_of, plan
from windlass.jobs.policies import REFUSED

# In the policy of a job that has limits.
MARK = '"limits"'
# How often one looks again before a job is blocked, or a waiter found.
TRIES = 5
# Keys that a sweep looks at, and waiters of one key that it wakes.
BATCH = 200


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
        held = slots_of(db).taken(keys_of(limited, wants))
        full, missed = _occupy(db, limited, wants, held)
        away: dict[str, Want] = {}
        if full or missed:
            with db.transaction():
                slots_of(db).begin_writing()
                rest = [job for job in limited if job.id in full or job.id in missed]
                away = _turn_away(db, node, rest, wants)
        admitted = []
        for job in jobs:
            if job.id not in away:
                admitted.append(job)
            elif away[job.id].on_conflict == "discard":
                admitted.append(job._replace(policy=REFUSED))
        return admitted

    def wants_of(self, jobs: Sequence[Claimed]) -> Wants:
        """The slots that each of some jobs needs."""
        return {job.id: self.wants(job) for job in jobs}

    def release(
        self,
        db: Dialect,
        node: int,
        jobs: Iterable[Claimed],
        *,
        taker: Taker,
        keepers: Mapping[str, Claimed] = MappingProxyType({}),
    ) -> list[list[Claimed]]:
        """
        Free the slots of jobs that this node holds no more; hand them on.

        Gives back chains of jobs that this node holds now, as ``hand_on`` does. Of a
        job that has a keeper, the slot goes to that one, whose code still runs.
        """
        ended = [(job.id, job.claim) for job in jobs if self.concern(job)]
        if not ended:
            return []
        own = slots_of(db)
        with db.transaction():
            own.begin_writing()
            if keepers:
                own.keep({id: (job.id, job.claim) for id, job in keepers.items()})
            free: Free = {}
            for key, number in own.vacate(ended):
                free.setdefault(key, []).append(number)
            return hand_on(self, db, node, free, taker) if free else []

    def wake(self, db: Dialect, key: str) -> None:
        """Make jobs that wait for a key ready, as many as it has room for."""
        with db.transaction():
            slots_of(db).begin_writing()
            held = slots_of(db).taken([key], lock=True).get(key, ())
            line, _held = in_line(db, {key: 1})
            limit = max((self.limit_of(w.job, key) for w in line if w.job), default=0)
            if limit > len(held):
                most = min(limit - len(held), BATCH)
                waiters = slots_of(db).next_waiters({key: most})
                lifecycle.unblock(db, [id for id, _key in waiters])

    def sweep(self, db: Dialect, *, after: str) -> str:
        """
        Free what died with its slot, and wake who waits although there is room.

        Looks at some of the keys that are waited for, beyond the one it was given;
        gives back where to go on.
        """
        own = slots_of(db)
        for key in own.free_abandoned(limit=BATCH):
            self.wake(db, key)
        keys = own.waiting_keys(after=after, limit=BATCH)
        if not keys:
            return ""
        held = own.taken(keys)
        heads = own.next_waiters(dict.fromkeys(keys, 1))
        found = own.blocked([id for id, _key in heads], lock=False)
        jobs = {job.id: job for job in found}
        for id, key in heads:
            job = jobs.get(id)
            # One that is blocked no more is for wake() to find out about.
            if job is None or len(held.get(key, ())) < self.limit_of(job, key):
                self.wake(db, key)
        return keys[-1]


def _occupy(
    db: Dialect, jobs: Sequence[Claimed], wants: Wants, held: Taken
) -> tuple[dict[str, Want], dict[str, Want]]:
    """
    Take slots for jobs, in the order of the jobs, knowing which are held.

    Gives back what the others lack: because its key was full, or because somebody
    else was faster.
    """
    places, full = plan(jobs, wants, held)
    got = slots_of(db).occupy(places) if places else set()
    lost = {place.job: place for place in places if (place.key, place.job) not in got}
    if lost:
        slots_of(db).vacate((place.job, place.claim) for place in lost.values())
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
        held = slots_of(db).taken(keys_of(left, wants), lock=True)
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
