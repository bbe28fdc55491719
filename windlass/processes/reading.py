"""
Reading a log: pages by number, and lines that follow a line.

Numbers have no gaps, so a page is a range of numbers: nothing is counted, and the last
page of a million lines costs what the first does. Followers ask for what comes after
the last line they have.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.core.paginator import Page, Paginator

from windlass.processes import moves
from windlass.processes.lines import target_of

if TYPE_CHECKING:
    from windlass.processes.models import BaseProcess

# Seconds between looks of a follower, and lines that it gets at once.
EVERY, CHUNK = 0.1, 500


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
    while True:
        # First, so that what is written before the end is not missed.
        has_ended = _status(process) in (*moves.ENDS, None)
        found = tail(process, after, CHUNK)
        yield from found
        if found:
            after = found[-1].sequence
        elif has_ended:
            return
        else:
            time.sleep(EVERY)


async def astream(process: BaseProcess, after: int) -> AsyncIterator[Any]:
    """See ``stream``: a thread does the waiting."""
    lines = stream(process, after)
    follow = sync_to_async(lambda: next(lines, None))
    while (found := await follow()) is not None:
        yield found


def _status(process: BaseProcess) -> str | None:
    status = moves.rows(process).values_list("status", flat=True).first()
    return None if status is None else str(status)
