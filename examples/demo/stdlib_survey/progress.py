"""
A progress line: rewritten in place on a terminal, and elsewhere one plain line
every two seconds.
"""

import shutil
import time

from .survey import ended

BAR = 20
PLAIN_SECONDS = 2


class ProgressLine:
    """Shows how many of a survey's jobs have ended."""

    def __init__(self, stream, total):
        self.stream = stream
        self.total = total
        self.started = time.monotonic()
        self.shown = self.started
        self.live = stream.isatty()

    def update(self, counts):
        """Show new counts, if this stream is due for them."""
        now = time.monotonic()
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            self.stream.write(f"\r{self.text(counts):<{width}.{width}}", ending="")
            self.stream.flush()
        elif now - self.shown >= PLAIN_SECONDS:
            self.shown = now
            self.stream.write(self.text(counts))
            self.stream.flush()

    def finish(self, counts):
        """Show the last counts and leave the line standing."""
        self.shown = 0
        self.update(counts)
        if self.live:
            self.stream.write("")

    def text(self, counts):
        done = ended(counts)
        filled = BAR * done // max(self.total, 1)
        states = ", ".join(f"{counts[state]} {state}" for state in sorted(counts))
        seconds = time.monotonic() - self.started
        return (
            f"[{'#' * filled:.<{BAR}}] {done}/{self.total} in {seconds:.0f} s: {states}"
        )
