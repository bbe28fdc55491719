"""
Telling the project what happens to the runtime: hooks, and errors of its own.

Whatever the project's code does when it is told, the runtime goes on: what it raises
is logged, SystemExit included.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.utils.module_loading import import_string

from windlass import hooks
from windlass.conf import Options
from windlass.runtime.child import Part

logger = logging.getLogger("windlass")


def tell_error(options: Options, error: BaseException) -> None:
    """Tell ``on_thread_error`` about an error of the runtime; never of a task."""
    told = options.on_thread_error
    if told is None:
        return
    try:
        (import_string(told) if isinstance(told, str) else told)(error)
    except (Exception, SystemExit):
        logger.exception("on_thread_error (%s) failed; the runtime goes on.", told)


def tell_hooks(
    options: Options, kind: str, event: str, name: str, **metadata: Any
) -> None:
    """Call the hooks of an event, each whatever the one before it did."""
    called = hooks.registered(kind, event)
    if not called:
        return
    part = hooks.Part(
        kind=kind,
        name=name,
        backend=options.alias,
        pid=os.getpid(),
        metadata=metadata,
    )
    for hook in called:
        try:
            hook(part)
        except (Exception, SystemExit) as error:
            logger.exception(
                "%s: a hook for %s.%s failed; the runtime goes on.", name, kind, event
            )
            tell_error(options, error)


@contextmanager
def told(options: Options, kind: str, name: str, **metadata: Any) -> Iterator[None]:
    """Tell of a part's start and its exit, and of the error that ends it."""
    tell_hooks(options, kind, "start", name, **metadata)
    try:
        yield
    except Exception as error:
        tell_error(options, error)
        raise
    finally:
        tell_hooks(options, kind, "exit", name, **metadata)


class Told:
    """A part of the runtime whose start and exit the project is told of."""

    def __init__(
        self, part: Part, options: Options, kind: str, name: str, **metadata: Any
    ) -> None:
        self.part, self.options, self.metadata = part, options, metadata
        self.kind, self.name = kind, name

    def run(self) -> int:
        """Run the part between its hooks; give back its exit code."""
        with told(self.options, self.kind, self.name, **self.metadata):
            return self.part.run()

    def stop(self, why: str) -> None:
        self.part.stop(why)

    def force(self) -> None:
        self.part.force()
