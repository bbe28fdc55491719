"""
A flag that a signal handler may raise.

``threading.Event`` guards itself with a lock. A handler runs in the middle of
whatever its thread was doing; if that was waiting for the same event, the handler
would wait for a lock that its own thread holds, for ever. Here the lock itself is
the flag: it is free while the flag is up, so raising it is one call into C.
"""

from __future__ import annotations

import threading
from contextlib import suppress


class Flag:
    """Raised by anybody, at any moment; awaited and lowered by one thread."""

    def __init__(self) -> None:
        self._down = threading.Lock()
        self._down.acquire()

    def set(self) -> None:
        """Raise the flag."""
        # Raised already, perhaps by a signal between any two instructions.
        with suppress(RuntimeError):
            self._down.release()

    def clear(self) -> None:
        """Lower the flag."""
        self._down.acquire(blocking=False)

    def is_set(self) -> bool:
        """Whether the flag is up."""
        return not self._down.locked()

    def wait(self, timeout: float) -> bool:
        """Wait until the flag is up, at most so many seconds; it stays up."""
        if self._down.acquire(timeout=max(0.0, timeout)):
            self.set()
            return True
        return False
