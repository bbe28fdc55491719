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

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from windlass.db import Claimed, Dialect, slots_of
from windlass.db.slots import Hold, Taken
from windlass.jobs import lifecycle, resolving
from windlass.jobs.handing_on import Taker, hand_on, in_line
from windlass.jobs.keys import MOST_AT_ONCE, limits_of
from windlass.jobs.places import (
    Free,
    Want,
    Wants,
    is_single,
    keys_of,
    plan,
    plan_single,
)
from windlass.jobs.policies import REFUSED, read

# In the policy of a job that has limits.
MARK = '"limits"'
# How often one looks again before a job is blocked.
TRIES = 5
# Of more keys than these one asks first whether anybody waits for any key at all.
FEW = 8
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
        found: list[Want] = []
        keys = _own_keys(job)
        if keys and (task := resolving.find(job)) is not None:
            for key, rule in zip(keys, limits_of(task.func), strict=False):
                if key:
                    found.append(Want(key, rule.limit, rule.on_conflict))
        if job.queue_name in self.queue_limits:
            limit = self.queue_limits[job.queue_name]
            found.append(Want(_queue_key(job), limit, "block"))
        if len(found) < 2:
            return found
        # One that is there twice is its strictest.
        by_key = {want.key: want for want in sorted(found, reverse=True)}
        return sorted(by_key.values())

    def _holds(self, job: Claimed) -> list[Hold]:
        # Whatever the code says by now.
        keys = [key for key in _own_keys(job) if key]
        if job.queue_name in self.queue_limits:
            keys.append(_queue_key(job))
        return [Hold(key, job.id, job.claim) for key in keys]

    def limit_of(self, job: Claimed, key: str) -> int:
        """How many may run beside a job; one that wants the key no more may always."""
        limits = [want.limit for want in self.wants(job) if want.key == key]
        return limits[0] if limits else MOST_AT_ONCE

    def admit(self, db: Dialect, node: int, jobs: Sequence[Claimed]) -> list[Claimed]:
        """
        Give back those of some held jobs that have their slots; block the others.

        One that is to be discarded instead is among them, with a policy that says so.
        """
        wants = self.wants_of(jobs)
        limited = [job for job in jobs if wants[job.id]]
        if not limited:
            return list(jobs)
        full, missed = _occupy_first(db, limited, wants)
        if not full and not missed:
            return list(jobs)
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
        holds = [hold for job in jobs for hold in self._holds(job)]
        if not holds:
            return []
        own = slots_of(db)
        with db.transaction():
            own.begin_writing()
            if keepers:
                kept = [hold for hold in holds if hold.job in keepers]
                own.keep([(hold, _kept(hold, keepers[hold.job])) for hold in kept])
            free: Free = {}
            for key, number in own.vacate(holds):
                free.setdefault(key, []).append(number)
            if not free or (len(free) > FEW and not own.somebody_waits()):
                return []
            return hand_on(self, db, node, free, taker)

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


def _kept(hold: Hold, keeper: Claimed) -> Hold:
    return Hold(hold.key, keeper.id, keeper.claim)


def _own_keys(job: Claimed) -> Sequence[str | None]:
    if job.policy is None or MARK not in job.policy:
        return ()
    keys: Sequence[str | None] = read(job.policy)["limits"]
    return keys


def _queue_key(job: Claimed) -> str:
    return f"queue {job.backend_alias}/{job.queue_name}"


def _occupy_first(
    db: Dialect, jobs: Sequence[Claimed], wants: Wants
) -> tuple[dict[str, Want], set[str]]:
    """
    Take slots for jobs that have just been claimed; see ``_occupy``.

    Who has a key for itself asks for its only place without a look before.
    """
    if not all(is_single(wants[job.id]) for job in jobs):
        return _occupy(db, jobs, wants, slots_of(db).taken(keys_of(jobs, wants)))
    places, full = plan_single(jobs, wants)
    return full, slots_of(db).occupy_alone(places)


def _occupy(
    db: Dialect, jobs: Sequence[Claimed], wants: Wants, held: Taken
) -> tuple[dict[str, Want], set[str]]:
    """
    Take slots for jobs, in the order of the jobs, knowing which are held.

    Gives back what those lack whose key was full, and for whom somebody was faster.
    """
    places, full = plan(jobs, wants, held)
    missed = slots_of(db).occupy(places) if places else set()
    if missed:
        some = [place for place in places if place.job in missed]
        slots_of(db).vacate(Hold(p.key, p.job, p.claim) for p in some)
    return full, missed


def _turn_away(
    db: Dialect, node: int, jobs: Sequence[Claimed], wants: Wants
) -> dict[str, Want]:
    """Block those of some jobs that really get no slot; give back what they lack."""
    away: dict[str, Want] = {}
    left = list(jobs)
    for _try in range(TRIES):
        # Who holds these cannot leave unseen any more.
        held = slots_of(db).taken(keys_of(left, wants), lock=True)
        full, missed = _occupy(db, left, wants, held)
        away |= full
        left = [job for job in left if job.id in missed]
        if not left:
            break
    away |= {job.id: wants[job.id][0] for job in left}
    blocked = [
        (job, away[job.id].key)
        for job in jobs
        if job.id in away and away[job.id].on_conflict == "block"
    ]
    if blocked:
        lifecycle.divert(db, node, blocked)
    return away
