"""
Whose turn it is: the shares of a lane are served one after another, each its part.

A share is what ``fair_by`` says of a job, a tenant say. A claim asks for a window of
the shares beyond the last that was served, and divides what it may take among them;
what is left after a round goes to whoever has more. So whoever has a million jobs
waiting does not delay the first job of another, and a claim costs the same however
many shares there are. Jobs without a share are one of them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count

from windlass.db import Claimed, Dialect, Lane
from windlass.db.shares import shares
from windlass.jobs.policies import read

# The shares that one claim looks at in a lane, and the lanes asked about at a time.
WINDOW = 64
LANES, LOOK_EVERY = 20, 0.25
# The windows that one claim asks for, if it comes back short.
WINDOWS = 16

Key = tuple[str, int]
Claim = Callable[[Sequence[Lane], int], list[Claimed]]


class Turns:
    """Which lanes of a backend have shares, and where in them the next claim begins."""

    def __init__(self, db: Dialect, backend_alias: str) -> None:
        self.db, self.backend_alias = db, backend_alias
        # The last share served in each lane; None at the beginning of a round.
        self.last: dict[Key, str | None] = {}
        self._windows: dict[Key, tuple[list[str], int]] = {}
        self._rounds: dict[Key, Round] = {}
        self._turn, self._looked_at = 0, float("-inf")

    def look(self, lanes: Sequence[Key], *, thoroughly: bool = False) -> bool:
        """
        Learn which of some lanes have shares; say whether one is new.

        A few at a time and not too often, unless it is to be ``thoroughly``.
        """
        new, now = False, time.monotonic()
        if now < self._looked_at + LOOK_EVERY and not thoroughly:
            return False
        self._looked_at = now
        asked = lanes if thoroughly else lanes[self._turn : self._turn + LANES]
        self._turn = self._turn + LANES if self._turn + LANES < len(lanes) else 0
        for lane in asked:
            if shares(self.db, self.backend_alias, lane, limit=1):
                new |= lane not in self.last
                self.last.setdefault(lane, None)
            else:
                self.last.pop(lane, None)
        return new

    def serve(
        self, lanes: Sequence[Lane], limit: int, claim: Claim, *, to_the_end: bool
    ) -> list[Claimed]:
        """
        Claim up to ``limit`` jobs from lanes, window by window: see ``is_done``.

        A few windows at most, unless it is to go on ``to_the_end``.
        """
        self._rounds = {}
        jobs: list[Claimed] = []
        for _window in count() if to_the_end else range(WINDOWS):
            left = limit - len(jobs)
            got = claim(self._divided(lanes, left), left)
            self._served(got, left)
            jobs += got
            if len(jobs) >= limit or self.is_done:
                break
        return jobs

    def _divided(self, lanes: Iterable[Lane], limit: int) -> list[Lane]:
        # Each lane that has shares is those whose turn it is.
        found: list[Lane] = []
        self._windows = {}
        for lane in lanes:
            key = (lane.queue_name, lane.nice)
            if key not in self.last:
                found.append(lane)
                continue
            began_in_between = self.last[key] is not None
            round = self._rounds.setdefault(key, Round(began_in_between))
            if round.is_done:
                continue
            names = self._window(key)
            most = limit if round.is_for_the_rest else -(-limit // len(names))
            self._windows[key] = (names, most)
            # A floor would be of one share, and the others' rows may be older.
            found += [Lane(*key, None, name, most) for name in names]
        return found

    def _window(self, key: Key) -> list[str]:
        last = self.last[key]
        if last is not None:
            names = self._shares(key, last, WINDOW)
            if names:
                return names
            self.last[key] = None
        return ["", *self._shares(key, "", WINDOW - 1)]

    def _shares(self, key: Key, after: str, limit: int) -> list[str]:
        return shares(self.db, self.backend_alias, key, after=after, limit=limit)

    def _served(self, jobs: Sequence[Claimed], limit: int) -> None:
        for key, (names, most) in self._windows.items():
            got = Counter(
                _share_of(job) for job in jobs if (job.queue_name, job.nice) == key
            )
            if len(jobs) >= limit:
                # Those after the last that got something may not have been asked.
                served = [name for name in names if got[name]]
                self.last[key] = served[-1] if served else self.last[key]
                continue
            round = self._rounds[key]
            round.is_short_of_some |= max(got.values(), default=0) >= most
            if len(names) >= WINDOW:
                self.last[key] = names[-1]
            else:
                self.last[key] = None
                round.reached_the_end()

    @property
    def is_done(self) -> bool:
        """Whether the last call of ``serve`` asked every share for all it has."""
        return all(round.is_done for round in self._rounds.values())


def _share_of(job: Claimed) -> str:
    share: str = read(job.policy).get("share", "") if job.policy else ""
    return share


@dataclass(slots=True)
class Round:
    """How far the shares of a lane are served: each its part, then what is left."""

    began_in_between: bool
    is_short_of_some: bool = False
    is_for_the_rest: bool = False
    is_done: bool = False

    def reached_the_end(self) -> None:
        """Note that the last of the shares has been asked."""
        if self.began_in_between:
            self.began_in_between = False
        elif self.is_short_of_some and not self.is_for_the_rest:
            self.is_for_the_rest = True
        else:
            self.is_done = True
