"""
What a worker process has started and not yet recorded, kept where it survives it.

The database knows which jobs a node holds, and not which of them have begun. Each
worker process notes that in a small file mapped into memory, before the first line
of the task runs; the pages belong to the kernel, so they outlive a SIGKILL of the
worker and of its supervisor. Whoever recovers the node on the same host reads it: a
job that never started is released as if nothing had happened.

The file names the process it belongs to, and is believed only once that process is
dead: one that is merely silent may begin, a moment later, what the file does not name
yet. Where there is no file to believe (another host, a reboot), every held job counts
as started.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import tempfile
import uuid
from collections import deque
from pathlib import Path

from windlass.db import Claimed
from windlass.runtime import identity

# Job id, claim number, start in epoch seconds; then one byte that says "in use",
# written last, so a kill in between leaves an unused slot.
ENTRY = struct.Struct("=16sId")
SLOT = 32
IN_USE = ENTRY.size
# Seconds after its process's last heartbeat.
KEPT = 2 * 86400.0
# Process id, its start, and the host within which the two mean something.
OWNER = struct.Struct("=QQ240s")


class Ledger:
    """The starts of one worker process, in a fixed number of slots."""

    def __init__(self, node: int, *, slots: int) -> None:
        self.path = path_of(node)
        self.path.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        size = OWNER.size + slots * SLOT
        try:
            # Written, not only sized: a page missing later would be a fatal signal.
            with open(descriptor, "wb", closefd=False) as file:
                file.write(bytes(size))
            self._map = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        OWNER.pack_into(self._map, 0, *_this_process())
        self._free = deque(range(OWNER.size, size, SLOT))

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
    """The (job id, claim) pairs a dead node had started, and when; None if unknown."""
    try:
        data = path_of(node).read_bytes()
    except OSError:
        return None
    if len(data) < OWNER.size or not _is_dead(*OWNER.unpack_from(data)):
        return None
    found = {}
    for slot in range(OWNER.size, len(data) - SLOT + 1, SLOT):
        if data[slot + IN_USE]:
            id, claim, started = ENTRY.unpack_from(data, slot)
            found[str(uuid.UUID(bytes=id)), claim] = started
    return found


def _this_process() -> tuple[int, int, bytes]:
    pid = os.getpid()
    return pid, identity.process_start(pid), identity.host().encode()[:240]


def _is_dead(pid: int, started: int, host: bytes) -> bool:
    here = identity.host().encode()[:240]
    return host.rstrip(b"\0") == here and not identity.is_running(pid, started)


def touch(node: int) -> None:
    """Say that the process of a ledger lives, for ``sweep``."""
    with contextlib.suppress(FileNotFoundError):
        os.utime(path_of(node))


def sweep(*, now: float) -> None:
    """Delete what processes that died days ago left, and nobody recovered here."""
    # They may belong to other databases of this host, whose runtimes may be down.
    for path in path_of(0).parent.glob("*.ledger"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < now - KEPT:
                forget(path)


def forget(path: Path) -> None:
    """Delete a ledger that nobody needs."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
