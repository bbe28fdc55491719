"""
What the interpreter of a run prints, as lines in their order with all else it says.

Whatever goes past Python, programs and C code, is read from the pipes of the output; a
line of theirs may come a moment sooner or later.
"""

from __future__ import annotations

import io
import os
import threading
import time
from typing import Any

from windlass.processes.lines import LEVEL_OF_OUTPUT, MOST, Line, clean
from windlass.processes.link import Link


class Printed(io.TextIOBase):
    """Stands in for ``sys.stdout`` or ``sys.stderr``: whole lines go to the log."""

    def __init__(self, link: Link, stream: str, file: Any) -> None:
        self.link, self.stream, self.file = link, stream, file
        self._rest = ""
        self._begin_anew()
        os.register_at_fork(after_in_child=self._begin_anew)

    def _begin_anew(self) -> None:
        # The copy of a lock that another thread holds would never be opened.
        self._lock = threading.RLock()

    def write(self, text: str) -> int:
        """Send each line that is whole by now."""
        if not isinstance(text, str):
            raise TypeError(f"write() takes text, not {type(text).__name__}.")
        with self._lock:
            *whole, self._rest = (self._rest + text).split("\n")
            if len(self._rest) > MOST:
                whole.append(self._rest)
                self._rest = ""
            for each in whole:
                self._say(each)
        return len(text)

    def end(self) -> None:
        """Send what came without an end of its own."""
        with self._lock:
            rest, self._rest = self._rest, ""
            if rest:
                self._say(rest)

    def _say(self, text: str) -> None:
        # A bar that was drawn over and over is what it was in the end.
        text = text.rstrip("\r")
        text = clean(text.rpartition("\r")[2] or text)
        level = LEVEL_OF_OUTPUT[self.stream]
        self.link.log(Line(time.time(), level, self.stream, text))

    # As far as it is a file like any other

    def flush(self) -> None:
        """Flush what was written past this, to the file below."""
        self.file.flush()

    def fileno(self) -> int:
        """The descriptor below."""
        return int(self.file.fileno())

    def isatty(self) -> bool:
        """Nobody draws on a log."""
        return False

    def writable(self) -> bool:
        """It is."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of the file below."""
        return str(self.file.encoding)

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """How the file below treats what it cannot encode."""
        found: str | None = self.file.errors
        return found

    @property
    def buffer(self) -> Any:
        """The bytes below, which come by the pipe."""
        return self.file.buffer
