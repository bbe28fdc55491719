"""When an attempt that failed is followed by another, and as which one that counts."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

from windlass.jobs.retries import Retry, Snooze, exponential

# As jobs without a policy of their own wait.
BACKOFF = exponential()


class Next(NamedTuple):
    """The attempt that follows: its number in this start, and in how many seconds."""

    attempt: int
    delay: float


def wish(error: BaseException) -> dict[str, Any]:
    """What an exception of ``run()`` says of the next attempt, for the supervision."""
    if isinstance(error, Snooze):
        return {"delay": error.delay, "counts": False}
    return {
        "delay": getattr(error, "delay", None) if isinstance(error, Retry) else None
    }


def following(attempt: int, wished: dict[str, Any] | None = None) -> Next:
    """What follows an attempt."""
    wished = wished or {}
    delay = wished.get("delay")
    if delay is None:
        delay = BACKOFF.after(attempt, draw=random.random)
    return Next(attempt + wished.get("counts", True), delay)
