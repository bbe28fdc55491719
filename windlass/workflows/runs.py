"""What is asked about a run: how far it is, and whether it is over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import NamedTuple

from asgiref.sync import sync_to_async
from django.db.models import Count

from windlass.workflows.models import Outcome, WorkflowRun

# How often a waiter looks: at once, then less and less often, in seconds.
FIRST_LOOK, LOOK_EVERY = 0.02, 0.5


class Progress(NamedTuple):
    """How many of a run's jobs are over, and how; gates are not counted."""

    done: int
    total: int
    succeeded: int
    failed: int
    cancelled: int
    skipped: int

    @property
    def share(self) -> float:
        """The part that is over, from 0 to 1."""
        return self.done / self.total if self.total else 1.0


def progress(run: WorkflowRun) -> Progress:
    """Count a run's jobs by how they ended."""
    rows = run.members.order_by().values_list("outcome").annotate(Count("pk"))
    counts = dict(rows)
    total = sum(counts.values())
    return Progress(
        done=total - counts.get(Outcome.OPEN, 0),
        total=total,
        succeeded=counts.get(Outcome.SUCCEEDED, 0),
        failed=sum(
            counts.get(each, 0)
            for each in (Outcome.FAILED, Outcome.DISCARDED, Outcome.PRUNED)
        ),
        cancelled=counts.get(Outcome.CANCELLED, 0),
        skipped=counts.get(Outcome.SKIPPED, 0),
    )


def wait(run: WorkflowRun, timeout: float | None) -> bool:
    """See ``WorkflowRun.wait``."""
    for pause in _pauses(timeout):
        run.refresh()
        if run.is_finished:
            return True
        time.sleep(pause)
    return False


async def wait_async(run: WorkflowRun, timeout: float | None) -> bool:
    """See ``WorkflowRun.wait``; without a thread that only waits."""
    for pause in _pauses(timeout):
        await sync_to_async(run.refresh)()
        if run.is_finished:
            return True
        await asyncio.sleep(pause)
    return False


def _pauses(timeout: float | None) -> Iterator[float]:
    """How long to wait after each look; the last look is at the end of the time."""
    if timeout is not None and not timeout >= 0:
        raise ValueError(f"timeout must be seconds from 0 on, not {timeout!r}.")
    deadline = None if timeout is None else time.monotonic() + timeout
    pause = FIRST_LOOK
    while deadline is None or (left := deadline - time.monotonic()) > 0:
        yield pause if deadline is None else min(pause, left)
        pause = min(LOOK_EVERY, pause * 1.5)
    yield 0.0
