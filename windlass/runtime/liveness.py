"""
The liveness file: its age says whether the runtime on this host lives.

A container's probe can look at a file where it cannot ask the database, and a
database that is away must not get every container killed.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

logger = logging.getLogger("windlass")


class Liveness:
    """The file that one runtime touches while it is well; without a path, none."""

    def __init__(self, path: str | None) -> None:
        self.path = None if path is None else Path(path)
        self._failed = False

    def touch(self) -> None:
        """Say "I am well" now. What cannot be written is logged, once in a row."""
        if self.path is None:
            return
        try:
            self.path.touch()
        except OSError as error:
            if not self._failed:
                logger.error("The liveness file cannot be written: %s.", error)
            self._failed = True
        else:
            self._failed = False

    def remove(self) -> None:
        """Say that nothing runs here any more."""
        if self.path is not None:
            with suppress(OSError):
                self.path.unlink()
