"""
What runs inside of a sandbox: one process's ``run()``, and above it who is process 1.

Process 1 gets the signals that are meant for the run, passes them on to its group, and
sees to what orphans leave; the system does not let it die of a signal as others do.
What the run is comes in by a socket, and what it raised goes out there.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from typing import Any

from windlass.processes.interpreter import RAISED, leave, perform, told_of
from windlass.processes.link import ENV
from windlass.processes.sandbox.layout import TALK
from windlass.runtime.child import die_with_parent

BEGUN = "begun"
# Characters of a traceback that are told, from its end.
LONGEST = 100_000


def main() -> int:
    """Run the process of this sandbox; give back the exit status."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    # Of crun and runc the runtime is the parent, and gone if all of the worker was
    # killed at once. If that was before this line, there is nobody to connect to.
    die_with_parent(os.getppid(), signal.SIGKILL)
    outside = socket.socket(socket.AF_UNIX)
    outside.connect(TALK)
    pid = os.fork()
    if pid:
        os._exit(_watch(pid))
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, leave)
    _say(outside, BEGUN)
    given: dict[str, Any] = {}
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        with outside.makefile("rb") as said_to_us:
            given = json.loads(said_to_us.readline())
        _run(given)
    except BaseException as error:  # noqa: BLE001 - it is told, and raised outside
        said = {name: text[-LONGEST:] for name, text in told_of(error).items()}
        said["text"] += _without_database(error, given)
        _say(outside, json.dumps(said))
        return RAISED
    return 0


def _say(outside: socket.socket, text: str) -> None:
    outside.sendall(f"{text}\n".encode())


def _run(given: dict[str, Any]) -> None:
    import django

    os.environ[ENV] = json.dumps(given["log"])
    django.setup()
    from windlass.processes.sandbox.instance import unpack

    perform(unpack(given))


def _without_database(error: BaseException, given: dict[str, Any]) -> str:
    from django.db import InterfaceError, OperationalError

    if given.get("network") == "host":
        return ""
    if not isinstance(error, InterfaceError | OperationalError):
        return ""
    return (
        " (This sandbox has no network, so it reaches no database: set SANDBOX_NETWORK "
        'to "host", or name the socket or file of the database in SANDBOX_MOUNTS.)'
    )


def _watch(pid: int) -> int:
    """Wait for the run, whatever else has to be waited for; its exit status."""
    signal.signal(signal.SIGTERM, lambda number, _frame: _pass_on(pid, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    while True:
        ended, status = os.wait()
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _pass_on(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        # It has not got as far as to have a group.
        os.kill(pid, number)


if __name__ == "__main__":
    sys.exit(main())
