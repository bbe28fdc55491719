"""The tasks that are measured: one that does nothing, one that waits."""

import asyncio

from bench.marks import mark
from windlass import task


@task
def noop(number: int) -> None:
    """Do nothing that takes time."""
    mark(number)


@task
async def pause(number: int) -> None:
    """Wait 0.1 s for something outside."""
    mark(number)
    await asyncio.sleep(0.1)
