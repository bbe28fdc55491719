"""The ladder by which code is ended: SIGTERM so many times, then SIGKILL."""

from __future__ import annotations

import signal
from collections.abc import Iterator

# Seconds until SIGKILL is sent again, should it come to nothing.
AGAIN = 1.0


class Ladder:
    """The signals that are still to be sent, and when. Times are monotonic."""

    def __init__(self, first: float, *, terms: int, wait: float) -> None:
        self.rungs = [(first + n * wait, int(signal.SIGTERM)) for n in range(terms)]
        self.rungs.append((first + terms * wait, int(signal.SIGKILL)))

    def due(self, now: float) -> Iterator[int]:
        """The signals whose time has come, each once."""
        while self.rungs[0][0] <= now:
            _at, number = self.rungs.pop(0)
            # Nobody can refuse the last one, but it may come to nothing all the same.
            self.rungs = self.rungs or [(now + AGAIN, int(signal.SIGKILL))]
            yield number

    def pause(self, now: float) -> float:
        """Seconds until the next signal."""
        return max(0.0, self.rungs[0][0] - now)
