"""
Rate limits: of the jobs of a key, so many may start in any span of so many seconds.

It is decided after the claim, for a batch at a time, by whoever holds the key's row. A
job that may not start yet is released until its turn: scheduled, with its attempt given
back. Then it is claimed and asks again, so what counts is when jobs really were let
go, by the database's clock, and never what was planned.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.db import OperationalError

from windlass.db import Claimed, Dialect
from windlass.jobs import lifecycle, resolving
from windlass.jobs.keys import RATES, Rate
from windlass.models.rates import RateWindow

# In the policy of a job that has limits.
MARK = '"rates"'
# A turn is taken this many seconds late, so that the start before it has left.
LATE = 0.001
TRIES = 5
# Longer than any span: nothing that began before counts any more.
IDLE_AFTER = timedelta(days=2)


@dataclass(slots=True)
class Window:
    """The starts of one key, while its row is held."""

    row: RateWindow
    queued: int = 0
    has_changed: bool = False

    def wait(self, rate: Rate, now: float) -> float:
        """Seconds until one more may start; 0.0 for now."""
        starts = self.row.starts = [s for s in self.row.starts if s > now - rate.period]
        if len(starts) < rate.limit:
            return 0.0
        # Those that were told to wait before this one have the first places that open.
        rounds, place = divmod(self.queued, rate.limit)
        opens: float = starts[len(starts) - rate.limit + place] + rate.period * (
            1 + rounds
        )
        return max(opens - now, 0.0) + LATE

    def take(self, now: float) -> None:
        """Note that one starts."""
        self.row.starts.append(now)
        self.has_changed = True


def are_limited(jobs: Iterable[Claimed]) -> bool:
    """Whether any of some jobs has a rate limit."""
    return any(job.policy is not None and MARK in job.policy for job in jobs)


def admit(
    db: Dialect, node: int, backend_alias: str, jobs: Sequence[Claimed]
) -> list[Claimed]:
    """Give back those of some held jobs that may start; release the others."""
    limits = {job.id: _limits(job) for job in jobs}
    if not any(limits.values()):
        return list(jobs)
    for tries_left in reversed(range(TRIES)):
        try:
            later = _put_off(db, node, backend_alias, jobs, limits)
            break
        except OperationalError as error:
            # Two that store the first starts of a key at once: one was undone, whole.
            alone = not db.connection.in_atomic_block
            if not (tries_left and alone and db.is_conflict(error)):
                raise
    return [job for job in jobs if job.id not in later]


def _put_off(
    db: Dialect,
    node: int,
    backend_alias: str,
    jobs: Sequence[Claimed],
    limits: dict[str, list[tuple[str, Rate]]],
) -> set[str]:
    """Note the starts of those that may; release the others, and give back which."""
    keys = sorted({key for each in limits.values() for key, _rate in each})
    with db.transaction():
        windows = _locked(db, backend_alias, keys)
        moment = db.now()
        now = moment.timestamp()
        later = {}
        for job in jobs:
            wait = _let_go(windows, limits[job.id], now)
            if wait:
                later[job.id] = lifecycle.release(job, delay=wait)
        for window in windows.values():
            if window.has_changed:
                window.row.updated_at = moment
                changed = ["starts", "updated_at"]
                window.row.save(using=db.database, update_fields=changed)
        if later:
            lifecycle.record(db, node, list(later.values()))
    return set(later)


def forget_idle(db: Dialect, backend_alias: str, *, limit: int) -> int:
    """Delete up to ``limit`` keys under which nothing has started for long."""
    rows = RateWindow.objects.using(db.database)
    idle = rows.filter(
        backend_alias=backend_alias, updated_at__lt=db.now() - IDLE_AFTER
    )
    ids = list(idle.values_list("id", flat=True)[:limit])
    return rows.filter(id__in=ids)._raw_delete(db.database) or 0


def _let_go(
    windows: dict[str, Window], limits: list[tuple[str, Rate]], now: float
) -> float:
    waits = {key: windows[key].wait(rate, now) for key, rate in limits}
    longest = max(waits.values(), default=0.0)
    for key, wait in waits.items():
        if not longest:
            windows[key].take(now)
        elif wait:
            windows[key].queued += 1
    return longest


def _limits(job: Claimed) -> list[tuple[str, Rate]]:
    if job.policy is None or MARK not in job.policy:
        return []
    # The rate is read from the code, so a change reaches the jobs that wait.
    task = resolving.find(job)
    rates = getattr(task.func, RATES, ()) if task is not None else ()
    keys = json.loads(job.policy)["rates"]
    return [(key, rate) for key, rate in zip(keys, rates, strict=False) if key]


def _locked(db: Dialect, backend_alias: str, keys: list[str]) -> dict[str, Window]:
    rows = RateWindow.objects.using(db.database)
    now = db.now()
    if db.single_writer:
        # Changes nothing, and makes this the one writer: what is read next stays so.
        rows.filter(pk=0).update(updated_at=now)
    # In the order of the keys, so that two who lock several never wait for each other.
    named = rows.filter(backend_alias=backend_alias, key__in=keys).order_by("key")
    held = list(named.select_for_update())
    if len(held) < len(keys):
        new = set(keys) - {row.key for row in held}
        rows.bulk_create(
            [
                RateWindow(backend_alias=backend_alias, key=key, updated_at=now)
                for key in sorted(new)
            ],
            ignore_conflicts=True,
        )
        held = list(named.select_for_update())
    return {row.key: Window(row) for row in held}
