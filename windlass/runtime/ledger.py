"""
What a worker process has started and not yet recorded, kept where it survives it.

The database knows which jobs a node holds, and not which of them have begun. Each
worker process notes that in a small file mapped into memory, before the first line
of the task runs; the pages belong to the kernel, so they outlive a SIGKILL of the
worker and of its supervisor. Whoever recovers the node on the same host reads it: a
job that never started is released as if nothing had happened.

Where the file is gone (another host, a reboot), every held job counts as started.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import tempfile
from collections import deque
from pathlib import Path

from windlass.db import Claimed

# Job id, claim number, start in epoch seconds; then one byte that says "in use",
# written last, so a kill in between leaves an unused slot.
ENTRY = struct.Struct("=16sId")
SLOT = 32
IN_USE = ENTRY.size


class Ledger:
    """The starts of one worker process, in a fixed number of slots."""

    def __init__(self, node: int, *, slots: int) -> None:
        self.path = path_of(node)
        self.path.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.ftruncate(descriptor, slots * SLOT)
            self._map = mmap.mmap(descriptor, slots * SLOT)
        finally:
            os.close(descriptor)
        self._free = deque(range(0, slots * SLOT, SLOT))

    def start(self, job: Claimed, now: float) -> int:
        """Note that a job's code begins; give back the slot to clear."""
        slot = self._free.popleft()
        id = bytes.fromhex(job.id.replace("-", ""))
        ENTRY.pack_into(self._map, slot, id, job.claim, now)
        self._map[slot + IN_USE] = 1
        return slot

    def clear(self, slot: int) -> None:
        """Note that the end of what started in this slot is recorded."""
        self._map[slot + IN_USE] = 0
        self._free.append(slot)

    def remove(self) -> None:
        """Delete the file: nothing is in hand any more."""
        forget(self.path)


def path_of(node: int) -> Path:
    """Where a node of this host keeps its ledger."""
    memory = Path("/dev/shm")
    base = memory if memory.is_dir() else Path(tempfile.gettempdir())
    return base / f"windlass-{os.getuid()}" / f"{node:016x}.ledger"


def read(node: int) -> dict[tuple[str, int], float] | None:
    """The (job id, claim) pairs a node had started, and when; None if not known."""
    try:
        data = path_of(node).read_bytes()
    except OSError:
        return None
    found = {}
    for slot in range(0, len(data) - SLOT + 1, SLOT):
        if data[slot + IN_USE]:
            id, claim, started = ENTRY.unpack_from(data, slot)
            text = id.hex()
            dashed = "-".join(
                (text[:8], text[8:12], text[12:16], text[16:20], text[20:])
            )
            found[dashed, claim] = started
    return found


def forget(path: Path) -> None:
    """Delete a ledger that nobody needs."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
