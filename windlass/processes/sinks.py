"""
Where the lines of a process go, seen from whoever says something.

In a process of its own: by a socket to the worker that supervises it. Executed in some
thread: to a writer beside it, with a connection of its own. Said of a process from
elsewhere: to the caller's connection, when the caller's transaction commits.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from django.db import connections, transaction

from windlass.processes import conf
from windlass.processes.collector import Collector
from windlass.processes.lines import Line, Target, target_of
from windlass.processes.link import ENV, Link, name_of
from windlass.processes.writing import Gone, Writer

if TYPE_CHECKING:
    from windlass.processes.models import BaseProcess

PROGRESS_EVERY = 0.2


class Sink(Protocol):
    """Takes lines and progress of one process."""

    def log(self, line: Line) -> None:
        """Take a line."""

    def progress(self, said: dict[str, Any]) -> None:
        """Take what replaces the progress said before."""

    def flush(self) -> bool:
        """Have everything stored that was taken; False if that takes too long."""


class Here:
    """
    Writes by the calling thread's connection, outside of the user's transactions.

    For tests, whose own transaction nobody else can look into.
    """

    def __init__(self, target: Target) -> None:
        self.writer = Writer(target, most=conf.options().log_limit)
        self.connection = connections[target.database]
        self.depth = len(self.connection.atomic_blocks)
        self.waiting: list[Line] = []
        self.said: dict[str, Any] | None = None
        self._said_at = 0.0

    def log(self, line: Line) -> None:
        """Write a line, or keep it until the user's transaction is over."""
        self.waiting.append(line)
        if len(self.connection.atomic_blocks) <= self.depth:
            self._write()

    def progress(self, said: dict[str, Any]) -> None:
        """Write progress now and then."""
        self.said = said
        is_outside = len(self.connection.atomic_blocks) <= self.depth
        if is_outside and time.monotonic() >= self._said_at + PROGRESS_EVERY:
            self._write()

    def flush(self) -> bool:
        """Write what was kept."""
        self._write()
        self.writer.leave_out(exactly=True)
        return True

    def _write(self) -> None:
        if self.waiting:
            lines, self.waiting = self.waiting, []
            self.writer.write(lines)
            self.writer.leave_out()
        if self.said is not None:
            self.writer.progress(self.said)
            self.said, self._said_at = None, time.monotonic()


class Outside:
    """Writes what is said of a process by whoever does not run it."""

    def __init__(self, target: Target) -> None:
        self.target = target

    def log(self, line: Line) -> None:
        """Write a line when the caller's transaction commits, or now."""
        write = partial(_write_if_there, self.target, [line])
        if _is_in_transaction(self.target.database):
            # A number that is taken and not committed would hold up everybody else.
            transaction.on_commit(write, using=self.target.database)
        else:
            write()

    def progress(self, said: dict[str, Any]) -> None:
        """Write progress now."""
        Writer(self.target).progress(said)

    def flush(self) -> bool:
        """See ``Sink``."""
        return True


def _write_if_there(target: Target, lines: list[Line]) -> None:
    try:
        Writer(target).write(lines)
    except Gone:
        # It was deleted meanwhile, and its log with it.
        return


# The run of the calling thread or coroutine, and the one that this process is for.
_here: ContextVar[tuple[str, Sink] | None] = ContextVar("windlass_run", default=None)
_own: tuple[str, Sink] | None = None
_joined: dict[str, Link] = {}


def sink_of(process: BaseProcess) -> Sink:
    """Where the lines of a process go, from the calling thread."""
    name = name_of(process)
    for run in (_here.get(), _own):
        if run is not None and run[0] == name:
            return run[1]
    return _link_by_environment(name) or Outside(target_of(process))


def current() -> Sink | None:
    """The sink of the run that the calling thread belongs to, or None."""
    run = _here.get() or _own
    if run is not None:
        return run[1]
    return _link_by_environment(None)


@contextmanager
def bound(process: BaseProcess, sink: Sink) -> Iterator[Sink]:
    """Send what the calling thread says of a process to a sink."""
    token = _here.set((name_of(process), sink))
    try:
        yield sink
    finally:
        _here.reset(token)


def own(process: BaseProcess, sink: Sink) -> None:
    """Send what anybody in this operating-system process says there."""
    global _own
    _own = (name_of(process), sink)


@contextmanager
def local(process: BaseProcess) -> Iterator[Sink]:
    """A sink for a run in the calling thread."""
    target = target_of(process)
    connection: Any = connections[target.database]
    in_memory = connection.vendor == "sqlite" and connection.is_in_memory_db()
    if connection.in_atomic_block or in_memory:
        # Nobody else would find the process.
        with bound(process, Here(target)) as sink:
            yield sink
        return
    collector = Collector(target)
    collector.start()
    try:
        with bound(process, collector) as sink:
            yield sink
    finally:
        collector.close()


def _link_by_environment(name: str | None) -> Link | None:
    said = os.environ.get(ENV)
    if not said:
        return None
    known = _joined.get(said)
    if known is None:
        given = json.loads(said)
        known = _joined[said] = Link(given["path"], given["name"])
    return known if name in (None, known.name) else None


def _is_in_transaction(database: str) -> bool:
    blocks = connections[database].atomic_blocks
    # A test's own transaction never commits.
    return not all(getattr(block, "_from_testcase", False) for block in blocks)
