"""
Jobs with ``executor="process"``: each in a child of its own, with its own group.

They come from a fork server, which each worker makes before its first thread, and one
of the worker's threads looks after each. Nothing a child does can harm its neighbours:
its exit, its memory and its time are its own, and are kept with the attempt.
"""

from __future__ import annotations

import faulthandler
import json
import mmap
import os
import random
import signal
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from django.db import connections

from windlass.db import Claimed
from windlass.jobs import execution
from windlass.jobs.outcomes import Executor, Outcome
from windlass.runtime.care import TIMES, Care
from windlass.runtime.child import SHOW_STACKS
from windlass.runtime.forkserver import ForkServer
from windlass.runtime.memory import OutOfMemory
from windlass.runtime.own_threads import lend_thread
from windlass.runtime.running import Running


def show_stacks_on_demand(path: Path) -> None:
    """Let a signal write the stacks of all threads to a file, whoever has the lock."""
    if SHOW_STACKS is not None:
        # Kept open for as long as the process lives.
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        faulthandler.register(SHOW_STACKS, file=file, all_threads=True)


class Processes:
    """Runs jobs in processes of their own. Made before the worker has threads."""

    def __init__(
        self,
        executor: Executor,
        *,
        most: int,
        crash_limit: int,
        lost: Callable[[str], None],
    ) -> None:
        self.executor, self.crash_limit, self.lost = executor, crash_limit, lost
        self._closing = False
        # One byte a child: whether it should come to an end soon.
        self.flags = mmap.mmap(-1, most)
        self._free = list(range(most))
        self.memory = OutOfMemory()
        self.server = ForkServer(self._child)

    def close(self) -> None:
        """End the server and what still runs under it, once; again is harmless."""
        if not self._closing:
            self._closing = True
            self.server.close()

    def server_died(self, pid: int | None) -> None:
        """Kill what a dead server left, and let the worker be replaced."""
        if pid is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        if not self._closing:
            self.lost("its fork server died")

    def run(self, job: Claimed, running: Running) -> Outcome:
        """Run a job to its end, in the calling thread's care."""
        place = self._free.pop()
        self.flags[place] = 0
        try:
            with tempfile.TemporaryFile() as stacks:
                return Care(self, job, running, place, stacks).run()
        finally:
            self._free.append(place)

    def ask_all_to_stop(self) -> None:
        """Tell every child that it should come to an end soon."""
        self.flags[:] = b"\1" * len(self.flags)

    # In the child

    def _child(self, ours: socket.socket, stacks: int) -> None:
        if SHOW_STACKS is not None:
            faulthandler.register(SHOW_STACKS, file=stacks, all_threads=True)
        signal.signal(signal.SIGTERM, _leave)
        lend_thread()
        random.seed()
        with ours.makefile("rb") as lines:
            given = json.loads(lines.readline())
        values, place = given["job"], given["place"]
        for name in TIMES:
            values[name] = datetime.fromisoformat(values[name])
        executor = replace(
            self.executor,
            shows_results=False,
            stop_asked=lambda job: bool(self.flags[place]),
            done=partial(_end_copy, os.getpid()),
        )
        outcome = execution.run(Claimed(**values), executor)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        answer = {
            "kind": type(outcome.move).__name__,
            "move": outcome.move._asdict(),
            "recorded": outcome.recorded,
        }
        ours.sendall(b"\n" + json.dumps(answer).encode() + b"\n")
        connections.close_all()


def _end_copy(own: int, job: Claimed) -> None:
    if os.getpid() != own:
        # The task forked, and its child comes back to where it has no business.
        os._exit(0)


def _leave(number: int, _frame: Any) -> None:
    # So that ``finally`` blocks get to run.
    raise SystemExit(128 + number)
