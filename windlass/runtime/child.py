"""
A child of the supervisor, from its fork to its exit.

It is born with its parent's signal handlers and memory, and ends without unwinding
into them. What it says with its exit status is whether it came to its proper end.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

logger = logging.getLogger("windlass")

ASKED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
# How a child that came to its proper end says so. Not 0: a task may call os._exit(0),
# and what its worker held must be recovered then too.
ENDED_WELL = 75
# A worker that has done its share, and one whose code would not end.
RECYCLED, RETIRED = 76, 77


# Asks a process for the stacks of its threads, and how long that may take; faulthandler
# answers in C, so even for code that holds Python's lock.
SHOW_STACKS = signal.SIGRTMIN + 5 if hasattr(signal, "SIGRTMIN") else None
STACKS_WITHIN = 0.1


class Part(Protocol):
    """What runs in a child: a worker or the dispatcher."""

    def run(self) -> int: ...

    def stop(self, why: str) -> None: ...

    def force(self) -> None: ...


def fork(body: Callable[[], int]) -> int:
    """Run a function in a child that exits with what it gives; give back the pid."""
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    # A signal must not meet the parent's handlers in the child, where they would
    # note it for nobody. It waits until the child has handlers of its own.
    signal.pthread_sigmask(signal.SIG_BLOCK, ASKED)
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ASKED)
        return pid
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # Ctrl-C reaches the whole group; the supervisor alone acts on it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        die_with_parent(parent)
        code = body()
    except BaseException:
        logger.exception("Process %s ended with an error.", os.getpid())
    finally:
        logging.shutdown()
        # Never unwind into the parent's copy of this stack.
        os._exit(code)


def run_part(part: Part) -> int:
    """Run a part of the runtime as the body of a child."""
    on_signals(lambda: part.stop("its supervisor asked"), part.force)
    return part.run() or ENDED_WELL


def on_signals(stop: Callable[[], None], force: Callable[[], None]) -> None:
    """Say what a child does when it is asked to stop; it may be asked from now on."""
    # However often SIGTERM comes: many managers send it to each process of a group,
    # and the supervisor passes it on as well. It says SIGQUIT when it means force.
    signal.signal(signal.SIGTERM, lambda *_: stop())
    signal.signal(signal.SIGQUIT, lambda *_: force())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ASKED)


def die_with_parent(parent: int, number: int = signal.SIGTERM) -> None:
    """Ask Linux for a signal when the parent dies; elsewhere the lease notices."""
    with suppress(OSError, AttributeError):
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, number)
    if os.getppid() != parent:
        os._exit(ENDED_WELL)


def adopt_orphans() -> None:
    """Ask Linux to make this process the parent of what its descendants leave."""
    with suppress(OSError, AttributeError):
        pr_set_child_subreaper = 36
        ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1)


def how_it_ended(code: int) -> str:
    """An exit code in words; negative ones are signals."""
    if code == RETIRED:
        return "ended because the code of a job would not"
    if code < 0:
        return f"was killed by signal {-code} ({signal.Signals(-code).name})"
    return f"exited with status {code}"
