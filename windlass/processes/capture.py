"""What a run says without saying it to us: its output, and Python's logging."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress

from windlass.processes import sinks
from windlass.processes.lines import RECORD, STDERR, STDOUT, Line, clean, level_of
from windlass.processes.link import Link
from windlass.processes.printing import Printed


class ProcessHandler(logging.Handler):
    """
    Puts records of Python's logging into the log of the process that runs here.

    Runs have one by themselves. Put it into LOGGING for interpreters that a run starts:
    they find their process by the environment. Elsewhere it does nothing.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Add a record as a line; one that cannot be formatted breaks nothing."""
        sink = sinks.current()
        if sink is None or record.name.startswith(("windlass", "django.db")):
            return
        try:
            text = clean(self.format(record))
            sink.log(Line(record.created, level_of(record.levelno), RECORD, text))
        except Exception:  # noqa: BLE001 - as logging itself does it
            self.handleError(record)


_handler = ProcessHandler()
# Where the output of this interpreter goes, and of the programs that it starts.
_links: list[Link] = []


def hear_records() -> None:
    """Hear what loggers of this interpreter say, while runs are in it."""
    if not any(isinstance(each, ProcessHandler) for each in logging.root.handlers):
        logging.root.addHandler(_handler)


def hear_everything(link: Link, *, output: bool) -> None:
    """Take over a process that is one run's alone: its loggers and its output."""
    if logging.root.level == logging.WARNING and not logging.root.handlers:
        # Nobody has said what is to be heard, and this is the place to hear it.
        logging.root.setLevel(logging.INFO)
    hear_records()
    if output:
        _links.append(link)
        for number, stream in ((1, STDOUT), (2, STDERR)):
            redirect(link, number, stream)
        hear_prints(link)


def hear_prints(link: Link) -> None:
    """Send what this interpreter prints as lines, in their order with the others."""
    for name, stream in (("stdout", STDOUT), ("stderr", STDERR)):
        file = getattr(sys, name)
        # Without a console there may be none.
        if file is not None and not isinstance(file, Printed):
            setattr(sys, name, Printed(link, stream, file))


def redirect(link: Link, number: int, stream: str) -> None:
    """Send what is written to a descriptor to the log."""
    ours, theirs = os.pipe()
    try:
        link.capture(stream, ours)
        os.dup2(theirs, number)
    finally:
        os.close(ours)
        os.close(theirs)


def flush_output() -> None:
    """Let go of what was printed."""
    for file in (sys.stdout, sys.stderr):
        if isinstance(file, Printed):
            file.end()
        with suppress(AttributeError, ValueError, OSError):
            file.flush()
    for link in _links:
        link.drain()
