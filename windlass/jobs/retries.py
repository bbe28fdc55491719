"""
What follows a failure: another attempt, and when; or the end.

A task says so with its policy (``max_attempts``, ``backoff``, ``retry_on``,
``give_up_on``), or in its own code by raising one of the three control exceptions.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.utils.module_loading import import_string

logger = logging.getLogger("windlass")

Backoff = float | timedelta | str | Callable[..., Any] | None


class Control(Exception):
    """What a task raises to say how its attempt ends."""


class Snooze(Control):
    """Raised by a task: run me again after ``delay``; this attempt does not count."""

    awaits = None

    def __init__(self, delay: float | timedelta) -> None:
        self.delay = seconds(delay, "Snooze(delay)")
        super().__init__(f"snoozed for {self.delay:g} s")


class Suspended(BaseException):
    """
    Raised in a task by a durable sleep or wait: the code ends here for now.

    Not an Exception: code that catches its errors must let it pass. ``awaits`` is the
    name of the event that is waited for, and how many of that name came before.
    """

    def __init__(self, delay: float, awaits: tuple[str, int] | None = None) -> None:
        self.delay, self.awaits = delay, awaits
        what = f"for the event {awaits[0]!r}" if awaits else f"for {delay:g} s"
        super().__init__(f"the job waits {what}; let this pass")


class Retry(Control):
    """Raised by a task: count a failure and try again while attempts remain."""

    def __init__(self, delay: float | timedelta | None = None) -> None:
        self.delay = None if delay is None else seconds(delay, "Retry(delay)")
        super().__init__("the task asked for a retry")


class Cancel(Control):
    """Raised by a task: end here as cancelled, with no further attempt."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        super().__init__(reason or "the task cancelled itself")


def exponential(
    first: float = 1, ceiling: float = 3600, *, factor: float = 2, jitter: bool = True
) -> Exponential:
    """
    Wait ``first`` seconds, then ``factor`` times longer each time, up to ``ceiling``.

    With ``jitter`` the wait is drawn between zero and that time ("full jitter"),
    so jobs that failed together do not come back together.
    """
    return Exponential(first, ceiling, factor, jitter)


@dataclass(frozen=True, slots=True, repr=False)
class Exponential:
    """A backoff: called with the error and the result, it gives seconds to wait."""

    first: float
    ceiling: float
    factor: float
    jitter: bool

    def __post_init__(self) -> None:
        seconds(self.first, "exponential(first)")
        seconds(self.ceiling, "exponential(ceiling)")
        seconds(self.factor, "exponential(factor)")

    def __call__(
        self,
        exception: BaseException,
        task_result: Any,
        *,
        draw: Callable[[], float] = random.random,
    ) -> float:
        return self.after(task_result.attempts, draw=draw)

    def after(self, attempt: int, *, draw: Callable[[], float]) -> float:
        """Seconds to wait after this attempt, counted from 1."""
        try:
            delay = min(self.ceiling, self.first * self.factor ** (attempt - 1))
        except OverflowError:
            delay = self.ceiling
        return delay * draw() if self.jitter else delay

    def __repr__(self) -> str:
        return f"exponential(first={self.first:g}, ceiling={self.ceiling:g})"


def may_retry(task: Any, exception: BaseException) -> bool:
    """Whether the task's policy wants another attempt after this error."""
    give_up_on = getattr(task, "give_up_on", ())
    retry_on = getattr(task, "retry_on", None)
    if give_up_on and isinstance(exception, give_up_on):
        return False
    return retry_on is None or isinstance(exception, retry_on)


def delay_after(
    backoff: Backoff, exception: BaseException, task_result: Any
) -> float | None:
    """
    Seconds until the next attempt, or None if the backoff says to stop.

    A backoff that fails or answers nonsense is logged, and the default is used:
    a mistake there must not lose the job.
    """
    if isinstance(exception, Retry) and exception.delay is not None:
        return exception.delay
    try:
        if isinstance(backoff, str):
            backoff = import_string(backoff)
        answer: Any = backoff
        if callable(backoff):
            answer = backoff(exception, task_result)
        if backoff is None:
            answer = DEFAULT_BACKOFF(exception, task_result)
        return None if answer is None else seconds(answer, "the backoff's answer")
    except BaseException:
        logger.exception(
            "Job %s: its backoff %r failed; the default is used instead.",
            task_result.id,
            backoff,
        )
        return DEFAULT_BACKOFF(exception, task_result)


def seconds(delay: float | timedelta, name: str) -> float:
    """Read a delay given in seconds or as a timedelta; refuse anything else."""
    if isinstance(delay, timedelta):
        delay = delay.total_seconds()
    if isinstance(delay, bool) or not isinstance(delay, int | float):
        raise TypeError(f"{name} must be seconds or a timedelta, not {delay!r}.")
    if not 0 <= delay <= 10**9:
        raise ValueError(f"{name} must be between 0 and 10**9 s, not {delay!r}.")
    return float(delay)


DEFAULT_BACKOFF = exponential()
