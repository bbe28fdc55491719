"""
Attendants: who goes along with a job in a process of its own, in its worker.

An optional app has an attendant for the jobs of its own task, by the task's path. It is
made before the process is forked, is told each step of the ladder, and looks at the
outcome when the process and all it has started are gone, before that is recorded. What
it does wrong is logged, and the job goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from windlass.db import Claimed
from windlass.jobs.outcomes import Outcome

logger = logging.getLogger("windlass")


class Attendant:
    """Goes along with one job, and wants nothing."""

    # How often SIGTERM is sent, and the seconds after each; None: once, and the grace.
    terms: tuple[int, float] | None = None

    def told(self, stop: BaseException) -> None:
        """Learn why the job is to end."""

    def rung(self, number: int, pid: int) -> None:
        """Learn that a signal was sent to the process's group."""

    def ended(self, outcome: Outcome, said: dict[str, Any]) -> None:
        """Learn what became of the job, and what the system said of its process."""


class Guarded:
    """An attendant whose errors harm nobody."""

    def __init__(self, make: Callable[[Claimed], Attendant], job: Claimed) -> None:
        self.job = job
        self.inner = self._call(make, job) or Attendant()
        self.terms = self.inner.terms

    def told(self, stop: BaseException) -> None:
        self._call(self.inner.told, stop)

    def rung(self, number: int, pid: int) -> None:
        self._call(self.inner.rung, number, pid)

    def ended(self, outcome: Outcome, said: dict[str, Any]) -> None:
        self._call(self.inner.ended, outcome, said)

    def _call(self, function: Callable[..., Any], *given: Any) -> Any:
        try:
            return function(*given)
        except Exception:
            logger.exception("Job %s: who attends it failed.", self.job.id)
            return None


NOBODY = Attendant()
# By the path of the task.
attendants: dict[str, Callable[[Claimed], Attendant]] = {}


def attendant_of(job: Claimed) -> Attendant | Guarded:
    """Who goes along with a job."""
    make = attendants.get(job.task_path)
    return NOBODY if make is None else Guarded(make, job)
