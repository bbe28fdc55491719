"""
The small values that go into and come out of the database.

JSON columns are carried as text: what the engine does not look at, it does not parse.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from functools import cache
from typing import NamedTuple

# What a notification says when it does not name a queue: that a cancel was asked for,
# or that somebody waits for the ends of jobs.
CANCEL, AWAITED = "\x01cancel", "\x01awaited"


class NewJob(NamedTuple):
    """A job to store. ``run_after`` None means now; ids are lower-case UUID text."""

    id: str
    backend_alias: str
    queue_name: str
    nice: int
    task_path: str
    args: str
    kwargs: str
    max_attempts: int
    run_after: datetime | None = None
    metadata: str | None = None
    policy: str | None = None
    share: str = ""
    # Of a multi-step job.
    name: str | None = None
    plan: str | None = None
    workspace: str | None = None


class Lane(NamedTuple):
    """
    One queue at one priority, and from which moment on to look for its rows.

    Of these the rows of one share (empty: those that have none), and at most so many
    in one claim (0: as many as the claim may take).
    """

    queue_name: str
    nice: int
    floor: datetime | None = None
    share: str = ""
    most: int = 0


class Claimed(NamedTuple):
    """A job that a node holds. ``id`` and ``claim`` name the hold: the fence."""

    id: str
    claim: int
    backend_alias: str
    queue_name: str
    nice: int
    task_path: str
    args: str
    kwargs: str
    attempts: int
    max_attempts: int
    crashes: int
    enqueued_at: datetime
    available_at: datetime
    history: str | None
    metadata: str | None
    policy: str | None


CLAIMED_COLUMNS = Claimed._fields


class Ended(NamedTuple):
    """The end of a held job, as it will be stored."""

    id: str
    claim: int
    state: str
    reason: str
    started_at: float | None  # seconds since the epoch; None if it never started
    finished_at: float
    return_value: str | None
    history: str | None
    attempt_back: int = 0  # 1 if the attempt had not started
    crashed: int = 0
    workspace: str | None = None  # None leaves it as it is
    is_followed: bool = False  # somebody wants to be told, with the move


class Returned(NamedTuple):
    """A held job that goes back to waiting, ``delay`` seconds from now."""

    id: str
    claim: int
    delay: float
    history: str | None
    attempt_back: int = 0
    crashed: int = 0
    workspace: str | None = None
    # The name of the event it waits for, and how many of that name it has had.
    awaits: tuple[str, int] | None = None


class Advanced(NamedTuple):
    """A held job whose step is done: it goes back to waiting, at its next step."""

    id: str
    claim: int
    task_path: str
    max_attempts: int
    policy: str
    history: str
    workspace: str
    ran: float  # seconds


# What moves from a live row to an ended one unchanged.
KEPT_COLUMNS = (
    "id",
    "enqueued_at",
    "node",
    "claim",
    "max_attempts",
    "backend_alias",
    "queue_name",
    "task_path",
    "args",
    "kwargs",
    "metadata",
    "progress",
    "unique_key",
    "policy",
    "available_at",
    "nice",
    "name",
    "plan",
    "workspace",
)
# The same, said of live rows, beside the rows of ends that may bring a workspace.
KEPT_OF_LIVE = ", ".join(f"live.{name}" for name in KEPT_COLUMNS).replace(
    "live.workspace", "COALESCE(input.workspace, live.workspace)"
)


def ends_channel(backend_alias: str) -> str:
    """The channel on which the ends of jobs are told while somebody waits for some."""
    return f"{channel(backend_alias)}/ends"


@cache
def channel(backend_alias: str) -> str:
    """The channel on which the workers of a backend alias are told of new jobs."""
    # PostgreSQL cuts names at 63 bytes, and a channel's name stands in quotes.
    if re.fullmatch(r"[a-zA-Z0-9_.-]{1,50}", backend_alias):
        return f"windlass_{backend_alias}"
    return f"windlass_{hashlib.sha256(backend_alias.encode()).hexdigest()[:32]}"
