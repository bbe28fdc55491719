"""
How many more jobs a runtime may start, shared by its worker processes.

The count is a number in a file without a name, and the lock on it is the kernel's,
which a killed process cannot keep.
"""

from __future__ import annotations

import fcntl
import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

COUNT = struct.Struct("=q")


class Budget:
    """Jobs that may still be started. Made before the fork, used by all children."""

    def __init__(self, jobs: int) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="windlass-")
        self.path = os.path.join(self._directory.name, "budget")
        with open(self.path, "wb") as file:
            file.write(COUNT.pack(jobs))

    def reserve(self, wanted: int) -> int:
        """Take up to ``wanted`` from the budget; give back how many that were."""
        if wanted <= 0:
            return 0
        with self._locked() as left:
            granted = max(0, min(wanted, left[0]))
            left[0] -= granted
        return granted

    def give_back(self, unused: int) -> None:
        """Return what was reserved and not claimed."""
        if unused > 0:
            with self._locked() as left:
                left[0] += unused

    def spent(self) -> bool:
        """Whether nothing is left."""
        with self._locked() as left:
            return left[0] <= 0

    @contextmanager
    def _locked(self) -> Iterator[list[int]]:
        # Opened each time: a lock belongs to an open file, and forks share those.
        with open(self.path, "r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            left = [COUNT.unpack(file.read(COUNT.size))[0]]
            yield left
            file.seek(0)
            file.write(COUNT.pack(left[0]))
