"""
How long the log of a run may be: its head and its tail stay, the middle is left out.

Each line is stored, and takes the next number. When there are more than the limit, the
oldest of the latter half are deleted, some at a time. So the head and the newest lines
can be read at every moment, whoever is killed, and numbers say how many are left out.
"""

from __future__ import annotations

from windlass.processes.lines import SYSTEM, Line, line

# Lines too many until some are deleted: a share of the limit, within bounds.
SHARE, MOST_AT_ONCE = 20, 5_000


class Cap:
    """Says which numbers of a run's log are to be left out."""

    def __init__(self, first: int, most: int) -> None:
        self.most = most
        self.head, self.tail = most // 2, most - most // 2
        # The last number that is left out, or the head's last.
        self.until = first + self.head - 1
        self.step = max(1, min(most // SHARE, MOST_AT_ONCE))

    def excess(self, last: int, *, exactly: bool = False) -> range:
        """The next numbers to leave out; empty while there are too few of them."""
        middle = range(self.until + 1, last - self.tail + 1)
        is_due = len(middle) >= (1 if exactly else self.step)
        return middle[:MOST_AT_ONCE] if is_due else range(0)

    def left_out(self, numbers: range) -> None:
        """Go on after these."""
        self.until = numbers[-1]

    def notice(self) -> Line:
        """What is said in the log when the first lines are left out."""
        said = (
            f"This run has said more than {self.most:,} lines. The first {self.head:,} "
            f"and the last {self.tail:,} are kept."
        )
        return line(said, level="warning", stream=SYSTEM)
