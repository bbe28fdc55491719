"""
The keeper: an interpreter beside a pool's process, from which its runs are forked.

A pool's process may have threads, and other tasks run in it. So runs come from an
interpreter that has nothing else to do: the fork server of Windlass's own workers, with
the same promises. It kills a run with its group and its orphans, tells how each ended,
and when the pool's process is gone it ends all of them and itself.
"""

from __future__ import annotations

import faulthandler
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from typing import Any

from windlass.runtime.child import SHOW_STACKS
from windlass.runtime.forkserver import ForkServer, serve


class Keeper(ForkServer):
    """The pool's end of an interpreter that forks runs."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        self._lock = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": _path()},
                # Signals for the worker's group are not for what it runs.
                start_new_session=True,
            )
        self.pid = self._process.pid

    def is_there(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def close(self) -> None:
        """Let it end, and what it still runs with it."""
        self._control.close()
        self._process.wait()


_lock = threading.Lock()
_keepers: dict[int, Keeper] = {}


def keeper() -> Keeper:
    """The keeper of this process; a new one if it has none, or not any more."""
    own = os.getpid()
    with _lock:
        found = _keepers.get(own)
        if found is None or not found.is_there():
            # A copy by fork has its parent's in here, which is not its own.
            _keepers.clear()
            found = _keepers[own] = Keeper()
        return found


def _path() -> str:
    return os.pathsep.join(filter(None, sys.path))


# In the keeper


def main(control: str) -> None:
    """Fork runs until the pool's process closes its end."""
    import django
    from django.db import connections

    django.setup()
    # With what runs need: they are born with it.
    from windlass.processes import listening, tasks  # noqa: F401

    # What those have left that were killed, as the one before this may have been.
    listening.sweep(now=time.time())
    # Nothing that is open here is to be in two processes.
    connections.close_all()
    serve(socket.socket(fileno=int(control)), _run, os.getppid())


def _run(ours: socket.socket, stacks: int) -> None:
    """Run one attempt, as the body of a child."""
    from windlass.contrib.celery import retrying
    from windlass.processes import execution
    from windlass.processes.link import Link, name_of
    from windlass.processes.tasks import load, run_alone

    if SHOW_STACKS is not None:
        faulthandler.register(SHOW_STACKS, file=stacks, all_threads=True)
    signal.signal(signal.SIGTERM, _leave)
    given = _job(ours)
    process = load(*given["place"]) if given else None
    if process is None:
        return
    link = Link(given["path"], name_of(process))
    link.connect()
    attempt = partial(
        execution.run,
        process,
        given["token"],
        may_repeat=given["may_repeat"],
        # Whatever comes after the job, and the end of the socket too, is that.
        is_told=lambda: bool(select.select([ours], [], [], 0)[0]),
    )
    try:
        run_alone(process, link, attempt)
    except Exception as error:  # noqa: BLE001 - execution has told of it
        said = json.dumps({"after": retrying.wish(error)})
        with suppress(OSError):
            ours.sendall(b"\n" + said.encode() + b"\n")


def _job(ours: socket.socket) -> Any:
    """What is to run; None if that was found out to be unwanted."""
    text = b""
    while not text.endswith(b"\n"):
        # No more than the line, for what follows it has a meaning.
        piece = ours.recv(1)
        if not piece:
            return None
        text += piece
    return json.loads(text)


def _leave(number: int, _frame: Any) -> None:
    # So that ``finally`` blocks get to run.
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main(*sys.argv[1:])
