"""
Reading a log: pages by number, and lines that follow a line.

A page is a range of numbers: nothing is counted, and the last page of a million lines
costs what the first does. Followers ask for what comes after the last line they have.
Numbers that are not there any more are shown as a gap.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.core.paginator import Page, Paginator

from windlass.processes import moves
from windlass.processes.following import AsyncFollower, Follower
from windlass.processes.gaps import filled, gap
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

    def __getitem__(self, part: slice) -> list[Any]:
        found = self.lines.filter(sequence__gt=part.start, sequence__lte=part.stop)
        lines = filled(found, part.start)
        last = lines[-1].sequence if lines else part.start
        if last < part.stop:
            near = lines[-1] if lines else self._behind(part.stop)
            # None if all of it was deleted just now.
            lines += [gap(last + 1, part.stop, near)] if near is not None else []
        return lines

    def _behind(self, number: int) -> Any:
        return self.lines.filter(sequence__gt=number).first()


def lines_of(process: BaseProcess) -> Any:
    """The lines of a process, in order."""
    target = target_of(process)
    model: Any = target.model
    lines = model._base_manager.using(target.database)
    return lines.filter(process=target.process_id).order_by("sequence")


def last_number(process: BaseProcess) -> int:
    """The number of the last line; 0 without any."""
    return Numbered(lines_of(process)).count()


def page(process: BaseProcess, number: Any, per_page: int) -> Page[Any]:
    """One page; a number that is out of range is clamped, what is none is 1."""
    numbered: Any = Numbered(lines_of(process))
    return Paginator(numbered, per_page).get_page(number)


def tail(process: BaseProcess, after: int, limit: int) -> list[Any]:
    """The lines after a number."""
    return filled(lines_of(process).filter(sequence__gt=after)[:limit], after)[:limit]


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
