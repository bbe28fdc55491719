"""
In which order a worker looks at queues, and from where on.

A lane is one queue at one priority. A worker names queues by selectors: exact names,
prefixes that end in a star, or the star alone. The order of selectors wins over
priority; within one selector priority wins; queues that are equal in both take turns,
so a full one does not starve the next; within one lane, age.

The floor of a lane is the moment from which claims look for its rows. Under an old
snapshot somewhere in PostgreSQL, rows that are long gone stay in the index, and
every claim would walk them again. A floor is only ever a short cut: a claim without
floors runs every few seconds, so a row that a late commit put below one waits no
longer than that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby

from windlass.db import Claimed, Lane

# A floor is what was newest this many seconds ago, for commits out of order.
FLOOR_LAG = 0.5
SAMPLE_EVERY = 0.1
# A full claim runs this often at least, and less often the longer it takes.
FULL_CLAIM_EVERY = 2.0
FULL_CLAIM_SHARE = 50


def matches(selector: str, queue_name: str) -> bool:
    """Whether a selector covers a queue."""
    if selector.endswith("*"):
        return queue_name.startswith(selector[:-1])
    return selector == queue_name


def rank(selectors: Sequence[str], queue_name: str) -> int:
    """The place of the first selector that covers a queue; -1 if none does."""
    for place, selector in enumerate(selectors):
        if matches(selector, queue_name):
            return place
    return -1


def in_order(
    selectors: Sequence[str], lanes: Iterable[tuple[str, int]]
) -> list[tuple[str, int]]:
    """The lanes that selectors cover, in the order they are to be served."""
    ranked = [(rank(selectors, queue), nice, queue) for queue, nice in lanes]
    return [(queue, nice) for place, nice, queue in sorted(ranked) if place >= 0]


class Lanes:
    """What one worker knows about the lanes it serves."""

    def __init__(self, selectors: Sequence[str]) -> None:
        self.selectors = selectors
        self._order: list[tuple[str, int]] = []
        self._samples: dict[tuple[str, int], deque[tuple[float, datetime]]] = {}
        self._floors: dict[tuple[str, int], datetime] = {}
        self._full_claim_at = 0.0
        self._turn = 0

    def refresh(self, found: Iterable[tuple[str, int]]) -> bool:
        """Learn which lanes have rows now; say whether there is a new one."""
        order = in_order(self.selectors, {*found, *self._order})
        new, self._order = order != self._order, order
        return new

    @property
    def served(self) -> list[tuple[str, int]]:
        """The lanes that this worker serves and that are known to have had rows."""
        return self._order

    def keep_only(self, found: Iterable[tuple[str, int]]) -> None:
        """Forget the lanes that have had no rows."""
        self._order = in_order(self.selectors, set(found))

    def for_claim(self, *, now: float) -> tuple[list[Lane], bool]:
        """The lanes to claim from, and whether this claim looks below the floors."""
        order = self._next_order()
        if now >= self._full_claim_at:
            return [Lane(*lane) for lane in order], True
        return [Lane(*lane, self._floor(lane, now)) for lane in order], False

    def _next_order(self) -> list[tuple[str, int]]:
        """The lanes in order; those of equal rank take turns at being first."""
        turn, self._turn = self._turn, self._turn + 1
        order: list[tuple[str, int]] = []
        for _rank, group in groupby(self._order, key=self._rank):
            equals = list(group)
            first = turn % len(equals)
            order += equals[first:] + equals[:first]
        return order

    def _rank(self, lane: tuple[str, int]) -> tuple[int, int]:
        return rank(self.selectors, lane[0]), lane[1]

    def _floor(self, lane: tuple[str, int], now: float) -> datetime | None:
        samples = self._samples.get(lane, deque())
        while samples and samples[0][0] <= now - FLOOR_LAG:
            self._floors[lane] = samples.popleft()[1]
        return self._floors.get(lane)

    def forget_floors(self) -> None:
        """Let the next claim look everywhere."""
        self._full_claim_at = 0.0

    def full_claim_took(self, seconds: float, *, now: float) -> None:
        """Plan the next full claim so that they stay a small share of the time."""
        pause = max(FULL_CLAIM_EVERY, FULL_CLAIM_SHARE * seconds)
        self._full_claim_at = now + pause

    def learn(self, jobs: Iterable[Claimed], *, now: float) -> None:
        """Note the newest row of each lane that these jobs came from."""
        newest: dict[tuple[str, int], datetime] = {}
        for job in jobs:
            # They come in order, so the last of a lane is its newest.
            newest[job.queue_name, job.nice] = job.available_at
        for lane, moment in newest.items():
            samples = self._samples.setdefault(lane, deque())
            if not samples or now - samples[-1][0] >= SAMPLE_EVERY:
                samples.append((now, moment))
