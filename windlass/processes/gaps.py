"""
Gaps in a log, as lines: what was left out is seen by the numbers that are not there.

Whoever reads gets a line for each gap. It is not stored, and has the gap's last number,
so that reading goes on behind it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from windlass.processes.lines import SYSTEM


def filled(lines: Iterable[Any], after: int) -> list[Any]:
    """Lines that follow a number, and a line for each gap before one of them."""
    found, last = [], max(after, 0)
    for line in lines:
        if line.sequence > last + 1:
            found.append(gap(last + 1, line.sequence - 1, line))
        found.append(line)
        last = line.sequence
    return found


def gap(first: int, last: int, near: Any) -> Any:
    """A line that stands for these numbers, of the log and the time of another."""
    model = type(near)
    named = model._meta.get_field("process").attname
    count = last - first + 1
    line = model(
        **{named: getattr(near, named)},
        sequence=last,
        level="warning",
        stream=SYSTEM,
        message=in_words(count),
        created=near.created,
        attempt=near.attempt,
    )
    line.left_out = count
    return line


def in_words(count: int) -> str:
    """What a gap says."""
    return f"… {count:,} line{'' if count == 1 else 's'} left out …"
