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
from typing import NamedTuple

from windlass.db import Claimed
from windlass.runtime import identity

# Job id, claim number, start in epoch seconds, deadline on the machine's steady clock
# (0: none), process of its own and that one's start (0: none); then one byte that says
# how it stands, written last, so a kill in between leaves an unused slot.
ENTRY = struct.Struct("=16sIddIQ")
SLOT = 56
STATE = ENTRY.size
FREE, BEGUN, TIMED_OUT, CANCELLED = range(4)
DEADLINE = struct.Struct("=d")
DEADLINE_AT, CHILD_AT = 28, 36
CHILD = struct.Struct("=IQ")
# Seconds after its process's last heartbeat.
KEPT = 2 * 86400.0
# Process id, its start, and the host within which the two mean something.
OWNER = struct.Struct("=QQ240s")
# When the whole process is to be killed, on the steady clock; 0 for never. Then whether
# it was ended on purpose, for the sake of a job in it that would not end.
KILL_AT = struct.Struct("=d")
ON_PURPOSE = OWNER.size + KILL_AT.size
HEAD = ON_PURPOSE + 8


class Begun(NamedTuple):
    """What a ledger says of a claim whose code had begun."""

    started: float
    state: int = BEGUN
    child: int = 0
    child_started: int = 0


class Ledger:
    """The starts of one worker process, in a fixed number of slots."""

    def __init__(self, node: int, *, slots: int) -> None:
        self.path = path_of(node)
        self.path.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        size = HEAD + slots * SLOT
        try:
            # Written, not only sized: a page missing later would be a fatal signal.
            with open(descriptor, "wb", closefd=False) as file:
                file.write(bytes(size))
            self._map = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        OWNER.pack_into(self._map, 0, *_this_process())
        self._free = deque(range(HEAD, size, SLOT))

    def start(self, job: Claimed, now: float, deadline: float = 0.0) -> int:
        """Note that a job's code begins; give back the slot to clear."""
        slot = self._free.popleft()
        id = bytes.fromhex(job.id.replace("-", ""))
        ENTRY.pack_into(self._map, slot, id, job.claim, now, deadline, 0, 0)
        self._map[slot + STATE] = BEGUN
        return slot

    def mark(self, slot: int, state: int) -> None:
        """Note that what began in this slot was told to stop, and why."""
        self._map[slot + STATE] = state

    def child(self, slot: int, pid: int) -> None:
        """Note the process of its own in which this slot's job runs."""
        began = identity.process_start(pid)
        CHILD.pack_into(self._map, slot + CHILD_AT, pid, began)

    def kill_at(self, moment: float) -> None:
        """Ask the supervisor to kill this process at a moment of the steady clock."""
        KILL_AT.pack_into(self._map, OWNER.size, moment)

    def clear(self, slot: int) -> None:
        """Note that the end of what started in this slot is recorded."""
        self._map[slot + STATE] = FREE
        self._free.append(slot)

    def retire(self) -> None:
        """Note that this process ends for the sake of a job in it that does not."""
        self._map[ON_PURPOSE] = 1

    def remove(self) -> None:
        """Delete the file: nothing is in hand any more."""
        forget(self.path)


def path_of(node: int) -> Path:
    """Where a node of this host keeps its ledger."""
    memory = Path("/dev/shm")
    base = memory if memory.is_dir() else Path(tempfile.gettempdir())
    return base / f"windlass-{os.getuid()}" / f"{node:016x}.ledger"


def stacks_of(node: int) -> Path:
    """Where the stacks of a node's threads are kept when it has to be killed."""
    return path_of(node).with_suffix(".stacks")


def read(node: int) -> dict[tuple[str, int], Begun] | None:
    """What a dead node had begun, by (job id, claim); None if nobody can say."""
    try:
        data = path_of(node).read_bytes()
    except OSError:
        return None
    if len(data) < HEAD or not _is_dead(*OWNER.unpack_from(data)):
        return None
    found = {}
    for slot in range(HEAD, len(data) - SLOT + 1, SLOT):
        if state := data[slot + STATE]:
            id, claim, began, _deadline, *child = ENTRY.unpack_from(data, slot)
            found[str(uuid.UUID(bytes=id)), claim] = Begun(began, state, *child)
    return found


def was_ended_on_purpose(node: int) -> bool:
    """Whether a dead node's process was ended because a job in it would not end."""
    try:
        head = path_of(node).read_bytes()[:HEAD]
    except OSError:
        return False
    return len(head) == HEAD and bool(head[ON_PURPOSE])


def is_overdue(node: int, *, now: float) -> bool:
    """Whether the process of a ledger is to be killed."""
    try:
        with path_of(node).open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return False
    return len(head) == HEAD and 0 < KILL_AT.unpack_from(head, OWNER.size)[0] <= now


def mark_overdue(node: int, *, now: float) -> None:
    """Note in a ledger which jobs have outlived their deadline."""
    with path_of(node).open("r+b") as file:
        with mmap.mmap(file.fileno(), 0) as data:
            data[ON_PURPOSE] = 1
            for slot in range(HEAD, len(data) - SLOT + 1, SLOT):
                (deadline,) = DEADLINE.unpack_from(data, slot + DEADLINE_AT)
                if data[slot + STATE] == BEGUN and 0 < deadline <= now:
                    data[slot + STATE] = TIMED_OUT


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
    """Delete a ledger that nobody needs, and the stacks beside it."""
    for name in (path, path.with_suffix(".stacks")):
        with contextlib.suppress(FileNotFoundError):
            name.unlink()
