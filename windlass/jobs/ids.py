"""
Job ids: UUID version 7 (RFC 9562), made by the client.

They rise with time, so rows insert at the right edge of every index and sort by
age; they are known before the insert. Within one process they rise strictly: the
74 bits after the clock start random in each millisecond and count up from there.
"""

from __future__ import annotations

import os
import threading
import time

VERSION = 7 << 76 | 2 << 62
HIGH, LOW, TAIL = 0xFFF << 64, (1 << 61) - 1, (1 << 48) - 1
_last = 0
_lock = threading.Lock()


def uuid7(*, now_ms: int | None = None) -> str:
    """Make the next id, as lower-case text with dashes."""
    return uuid7s(1, now_ms=now_ms)[0]


def uuid7s(count: int, *, now_ms: int | None = None) -> list[str]:
    """Make the next ids, in order."""
    global _last
    clock = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    with _lock:
        if clock > _last >> 80:
            # 73 random bits of 74: counting up cannot spill into the bits above.
            chance = int.from_bytes(os.urandom(10))
            first = clock << 80 | VERSION | chance >> 1 & LOW | chance >> 4 & HIGH
        else:
            first = _last + 1
        _last = first + count - 1
        last = _last
    if first >> 48 != last >> 48:
        return [_text(value) for value in range(first, last + 1)]
    # They differ in their last twelve digits only.
    head = _text(first)[:24]
    return [f"{head}{value & TAIL:012x}" for value in range(first, last + 1)]


def _text(value: int) -> str:
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _reseed() -> None:
    # A child that counted on from its parent's last id would repeat its siblings',
    # and a lock that another thread held at the fork would never be released.
    global _last, _lock
    _last, _lock = 0, threading.Lock()


os.register_at_fork(after_in_child=_reseed)
