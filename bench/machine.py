"""
What else runs on this machine: wait for quiet, and say how much was disturbed.

A measurement beside somebody else's work measures that work too. Where ``/proc`` is,
the CPU time of the benchmark and of its database server is told from everybody
else's; elsewhere nothing is known and nothing is waited for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
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
    used: dict[int, int] = {}
    children: dict[int, list[int]] = {}
    for path in PROC.glob("[0-9]*/stat"):
        try:
            words = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        pid = int(path.parent.name)
        used[pid] = sum(int(word) for word in words[11:15])
        children.setdefault(int(words[1]), []).append(pid)
    total, waiting, seen = 0, list(roots), set()
    while waiting:
        pid = waiting.pop()
        if pid not in seen:
            seen.add(pid)
            total += used.get(pid, 0)
            waiting += children.get(pid, [])
    return total
