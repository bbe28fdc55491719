"""
What a worker process can show for itself, written down with each heartbeat.

A heartbeat says only that the process lives. Beside it stands what proves that it
can work: when its claim loop last turned, what it has in hand, what runs for too
long. Durations are seconds at the moment of the beat, so nobody who reads them needs
the writer's clock. Nothing is judged here: ``health`` does that.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from windlass.db import Claimed
from windlass.jobs.policies import timeout_of

if TYPE_CHECKING:
    from windlass.runtime.worker import Worker

# A job is overdue this long after its timeout: ending it takes a moment too.
GRACE = 10.0
# So many overdue jobs are named; people read this. The rest is counted.
MOST_NAMED = 5


class Evidence:
    """The details of one worker's node; asked for by the thread that beats."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self._asked_loop_at: float | None = None

    def details(self) -> dict[str, Any]:
        """What the worker serves and, once it works, how that goes."""
        worker, options = self.worker, self.worker.worker
        details: dict[str, Any] = {
            "queues": list(options.queues),
            "threads": options.threads,
            "async_concurrency": options.async_concurrency,
            "polling_interval": options.polling_interval,
        }
        if worker.turned_at is None:
            return details
        now = time.monotonic()
        return {
            **details,
            "turned_ago": _ago(worker.turned_at, now),
            "database_away": _ago(worker.outage.since, now),
            "loop_silent_for": self._loop_silent_for(now),
            "stopping": worker.stopping,
            "in_hand": worker.claimer.in_hand,
            **self._what_runs(time.time()),
        }

    def _loop_silent_for(self, now: float) -> float | None:
        """For how long the event loop has owed an answer; asks for the next one."""
        if self.worker.loop is None:
            return None
        if self._asked_loop_at is None:
            self._asked_loop_at = now
            self.worker.loop.loop.call_soon_threadsafe(self._loop_answered)
            return 0.0
        return _ago(self._asked_loop_at, now)

    def _loop_answered(self) -> None:
        self._asked_loop_at = None

    def _what_runs(self, now: float) -> dict[str, Any]:
        held = list(self.worker.running.jobs.values())
        running = [(now - each.started, each.job) for each in held]
        running.sort(key=lambda each: -each[0])
        overdue = [each for each in running if _is_overdue(*each)]
        late = {job.id for _seconds, job in overdue}
        in_loop = sum(each.task is not None for each in held if each.job.id in late)
        return {
            "running": len(running),
            "longest": _described(*running[0]) if running else None,
            "overdue": [_described(*each) for each in overdue[:MOST_NAMED]],
            "stuck_threads": len(overdue) - in_loop,
            "stuck_coroutines": in_loop,
        }


def _is_overdue(seconds: float, job: Claimed) -> bool:
    limit = timeout_of(job)
    return limit is not None and seconds > limit + GRACE


def _described(seconds: float, job: Claimed) -> dict[str, Any]:
    return {
        "job": job.id,
        "task": job.task_path,
        "seconds": round(seconds, 1),
        "limit": timeout_of(job),
    }


def _ago(moment: float | None, now: float) -> float | None:
    return None if moment is None else round(now - moment, 1)
