"""How much memory processes use, and whether the kernel killed one for it."""

from __future__ import annotations

import os
import random
import re
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")


def resident() -> int:
    """Bytes of memory that this process occupies now; 0 where nobody can say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
    except OSError:
        return 0


def peak(usage: resource.struct_rusage) -> int:
    """Bytes of memory that a process occupied at most."""
    # Linux counts in kB, macOS in bytes.
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def megabytes(size: int) -> str:
    """A number of bytes, as people read it."""
    return f"{size / 2**20:,.0f} MiB"


def with_jitter(limit: int, *, draw: Callable[[], float] = random.random) -> int:
    """A limit up to a tenth lower, so that processes do not reach it together."""
    return max(1, round(limit * (1 - 0.1 * draw())))


class OutOfMemory:
    """The kernel's count of processes killed for memory, in this control group."""

    def __init__(self) -> None:
        self._file = next((path for path in _counters() if path.is_file()), None)
        self._before = self._kills()

    def _kills(self) -> int:
        try:
            text = self._file.read_text() if self._file else ""
        except OSError:
            return 0
        found = re.search(r"^oom_kill (\d+)", text, re.MULTILINE)
        return int(found[1]) if found else 0

    def verdict(self) -> str:
        """What to add to "was killed", if the kernel has killed since we looked."""
        before, self._before = self._before, self._kills()
        if self._before > before:
            return ", by the kernel, because it was out of memory"
        return ""


def _counters() -> Iterator[Path]:
    """Where the count may be: https://docs.kernel.org/admin-guide/cgroup-v2.html."""
    root = Path("/sys/fs/cgroup")
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in groups:
        _number, controllers, path = line.split(":", 2)
        # A container often sees its own group as the root.
        for own in (path.lstrip("/"), ""):
            if controllers == "memory":
                yield root / "memory" / own / "memory.oom_control"
            elif not controllers:
                yield root / own / "memory.events"
