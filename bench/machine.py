"""
What else runs on this machine: wait for quiet, and say how much was disturbed.

A measurement beside somebody else's work measures that work too. Where ``/proc`` is,
the CPU time of the benchmark and of its database server is told from everybody
else's; elsewhere nothing is known and nothing is waited for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Container, Iterable
from pathlib import Path

QUIET = 0.12
PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")


def wait_for_quiet(patience: float) -> None:
    """Wait until the machine is nearly idle, for ``patience`` seconds at most."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        busy, total = _machine()
        time.sleep(0.3)
        busy_then, total_then = _machine()
        if busy_then - busy < QUIET * max(1, total_then - total):
            return


class Others:
    """How many cores everybody else used since this was made."""

    def __init__(self, servers: Iterable[int | None]) -> None:
        self.roots = [os.getpid(), *(pid for pid in servers if pid)]
        self.begun = time.monotonic()
        self.busy, self.own = _machine()[0], _trees(self.roots)

    def cores(self) -> float:
        """Their use, in cores."""
        ticks = _machine()[0] - self.busy - (_trees(self.roots) - self.own)
        return max(0.0, ticks / TICKS / (time.monotonic() - self.begun))


def seconds_of(root: int, without: Iterable[int]) -> float:
    """CPU seconds of a process and of those below it that live, but for some."""
    used, below = _processes()
    return (
        sum(used[pid][0] for pid in _tree([root], below, used) - set(without)) / TICKS
    )


def _machine() -> tuple[int, int]:
    """Busy and all jiffies of the machine."""
    try:
        line = (PROC / "stat").read_text().splitlines()[0]
    except OSError:
        return 0, 0
    times = [int(word) for word in line.split()[1:9]]
    return sum(times) - times[3] - times[4], sum(times)


def _trees(roots: Iterable[int]) -> int:
    """Jiffies of live processes under these, and of their children that ended."""
    used, below = _processes()
    return sum(sum(used[pid]) for pid in _tree(roots, below, used))


def _processes() -> tuple[dict[int, tuple[int, int]], dict[int, list[int]]]:
    """Jiffies of each process and of its children that ended; and who is below whom."""
    used: dict[int, tuple[int, int]] = {}
    below: dict[int, list[int]] = {}
    for path in PROC.glob("[0-9]*/stat"):
        try:
            words = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        pid, times = int(path.parent.name), [int(word) for word in words[11:15]]
        used[pid] = (sum(times[:2]), sum(times[2:]))
        below.setdefault(int(words[1]), []).append(pid)
    return used, below


def _tree(
    roots: Iterable[int], below: dict[int, list[int]], known: Container[int]
) -> set[int]:
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found and pid in known:
            found.add(pid)
            waiting += below.get(pid, [])
    return found
