"""The tasks that are measured: they do nothing, or wait, or are limited."""

import asyncio
from typing import Any

from bench.marks import mark
from windlass import concurrency, task

KEYS = 10_000


@task
def noop(number: int) -> None:
    """Do nothing that takes time."""
    mark(number)


@task
async def pause(number: int) -> None:
    """Wait 0.1 s for something outside."""
    mark(number)
    await asyncio.sleep(0.1)


def step(job: Any) -> None:
    """Count how many steps of its job have begun."""
    mark(3 * job.workspace["number"] + job.step)


@task
@concurrency(key="hot")
def hot(number: int) -> None:
    """Do nothing, one at a time."""
    mark(number)


@task
@concurrency(key=lambda number: str(number % KEYS))
def keyed(number: int) -> None:
    """Do nothing, one at a time of each of 10,000 keys."""
    mark(number)
