"""
Reading a log: pages by number, and lines that follow a line.

Numbers have no gaps, so a page is a range of numbers: nothing is counted, and the last
page of a million lines costs what the first does. Followers ask for what comes after
the last line they have.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.core.paginator import Page, Paginator

from windlass.processes import moves
from windlass.processes.following import AsyncFollower, Follower
from windlass.processes.lines import target_of

if TYPE_CHECKING:
    from windlass.processes.models import BaseProcess

# Lines that a follower gets at once, and the end of a process that is gone.
CHUNK, DELETED = 500, "deleted"


class Numbered:
    """The lines of a process as a paginator wants them."""

    def __init__(self, lines: Any) -> None:
        self.lines = lines

    def count(self) -> int:
        """How many lines there are, which is the number of the last."""
        last = self.lines.order_by("-sequence").values_list("sequence", flat=True)
        return int(last.first() or 0)

    def __getitem__(self, part: slice) -> Any:
        return self.lines.filter(sequence__gt=part.start, sequence__lte=part.stop)


def lines_of(process: BaseProcess) -> Any:
    """The lines of a process, in order."""
    target = target_of(process)
    model: Any = target.model
    lines = model._base_manager.using(target.database)
    return lines.filter(process=target.process_id).order_by("sequence")


def page(process: BaseProcess, number: Any, per_page: int) -> Page[Any]:
    """One page; a number that is out of range is clamped, what is none is 1."""
    numbered: Any = Numbered(lines_of(process))
    return Paginator(numbered, per_page).get_page(number)


def tail(process: BaseProcess, after: int, limit: int) -> list[Any]:
    """The lines after a number."""
    return list(lines_of(process).filter(sequence__gt=after)[:limit])


def stream(process: BaseProcess, after: int) -> Iterator[Any]:
    """The lines after a number, and those that come, until the process has ended."""
    with Follower(process) as follower:
        while True:
            found, end = look(process, after)
            for line in found:
                yield line
                after = line.sequence
            if end is not None:
                return
            if len(found) < CHUNK:
                follower.wait()


async def astream(process: BaseProcess, after: int) -> AsyncIterator[Any]:
    """See ``stream``: nobody's thread waits."""
    with AsyncFollower(process) as follower:
        while True:
            found, end = await sync_to_async(look)(process, after)
            for line in found:
                yield line
                after = line.sequence
            if end is not None:
                return
            if len(found) < CHUNK:
                await follower.wait_on_loop()


def look(process: BaseProcess, after: int) -> tuple[list[Any], str | None]:
    """What follows a number, and how the process has ended if that is all."""
    # First, so that what is written before the end is not missed.
    status = moves.rows(process).values_list("status", flat=True).first()
    found = tail(process, after, CHUNK)
    has_ended = status in (*moves.ENDS, None) and len(found) < CHUNK
    return found, (status or DELETED) if has_ended else None
