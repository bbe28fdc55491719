"""
Who a process is, so that it is never mistaken for another.

A pid means something only within one pid namespace of one boot of one host, and
only together with the start time of the process that has it.
"""

from __future__ import annotations

import os
import secrets
import socket
from functools import cache


def new_node_id() -> int:
    """A random identity for a node, from 1 to 2**63 - 1."""
    return secrets.randbits(62) + 1


@cache
def host() -> str:
    """The scope in which a pid of this process means something."""
    boot = _read("/proc/sys/kernel/random/boot_id").strip()[:8]
    try:
        namespace = str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        namespace = ""
    return "/".join(filter(None, (socket.gethostname(), boot, namespace)))


def process_start(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 where nobody can say."""
    stat = _read(f"/proc/{pid}/stat")
    # The command's name is in parentheses and may hold anything, so split after it.
    return int(stat.rpartition(")")[2].split()[19]) if stat else 0


def is_running(pid: int, started: int) -> bool:
    """Whether this very process still runs on this host; a zombie does not."""
    stat = _read(f"/proc/{pid}/stat")
    if stat:
        values = stat.rpartition(")")[2].split()
        return values[0] not in "ZX" and started in (0, int(values[19]))
    if os.path.exists("/proc/self/stat"):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it exists and belongs to someone else
    return True


def children_of(pid: int) -> list[int]:
    """The children of a process with one thread, as Linux knows them."""
    # https://docs.kernel.org/filesystems/proc.html
    return [int(child) for child in _read(f"/proc/{pid}/task/{pid}/children").split()]


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""
