"""
A warm process that forks: where jobs with ``executor="process"`` come from.

A worker has threads, and a fork copies locks that other threads hold. So each worker
process has a twin, forked before its first thread: it does nothing but fork children
when the worker asks, kill their process groups when the worker says so, and tell how
each ended. When the worker is gone it kills what is left, and goes too.

The worker talks to it over a socket. For each job there is another one, which carries
the job in and, a line of JSON each, the pid, the child's move, and how it ended.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable

from windlass.runtime.child import ASKED, SHOW_STACKS, adopt_orphans, die_with_parent
from windlass.runtime.identity import children_of
from windlass.runtime.memory import peak

FORK, KILL = b"F", b"K"
TARGET = struct.Struct("=ii")
# Seconds for the death of what was killed.
LAST = 1.0
# The body of a child: given its job's socket and a file for its stacks.
Body = Callable[[socket.socket, int], None]


class ForkServer:
    """The worker's end: made before the worker has threads."""

    def __init__(self, body: Body) -> None:
        self._control, theirs = socket.socketpair()
        # Many threads speak, and one word must not come in the middle of another.
        self._lock = threading.Lock()
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        # Whoever made us may have signals wait; then they wait on.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ASKED)
        self.pid = os.fork()
        if not self.pid:
            self._control.close()
            serve(theirs, body, parent)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()

    def fork(self, stacks: int) -> socket.socket:
        """Start a child; give back the socket on which it awaits its job."""
        ours, theirs = socket.socketpair()
        with theirs:
            descriptors = array.array("i", [theirs.fileno(), stacks])
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)
            with self._lock:
                self._control.sendmsg([FORK], [rights])
        return ours

    def kill(self, pid: int, number: int) -> None:
        """Signal a child's whole process group, if it is still there."""
        # The children of a server that is gone are gone as well.
        with self._lock, contextlib.suppress(OSError):
            self._control.sendall(KILL + TARGET.pack(pid, number))

    def close(self) -> None:
        """Let the server end, and what it still runs with it."""
        self._control.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def serve(control: socket.socket, body: Body, parent: int) -> None:
    """Fork children when the control socket says so; exits when that is closed."""
    code = 1
    try:
        # The supervisor's signals are for the worker, which tells us by the socket.
        for number in ASKED:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ASKED)
        adopt_orphans()
        if os.getppid() == parent:
            _Server(control, body).run()
        code = 0
    finally:
        os._exit(code)


class _Server:
    def __init__(self, control: socket.socket, body: Body) -> None:
        self.control, self.body = control, body
        # Each child's own socket, on which we say how it ended.
        self.children: dict[int, socket.socket] = {}
        self.wake, told = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(told, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)

    def run(self) -> None:
        while True:
            control = self.control.fileno()
            ready, _, _ = select.select([control, self.wake], [], [])
            if self.wake in ready:
                os.read(self.wake, 1024)
                self._reap()
            if control in ready and not self._obey():
                break
        for pid in self.children:
            _kill_group(pid, signal.SIGKILL)
        deadline = time.monotonic() + LAST
        while self.children and time.monotonic() < deadline:
            self._reap()
            time.sleep(0.01)

    def _obey(self) -> bool:
        size = socket.CMSG_SPACE(2 * 4)
        try:
            said, ancillary, _, _ = self.control.recvmsg(1, size)
        except ConnectionError:
            return False
        if said == FORK:
            descriptors = array.array("i")
            for _level, _kind, data in ancillary:
                descriptors.frombytes(data[: len(data) - len(data) % 4])
            self._fork(socket.socket(fileno=descriptors[0]), descriptors[1])
        elif said == KILL:
            data = self.control.recv(TARGET.size, socket.MSG_WAITALL)
            pid, number = TARGET.unpack(data)
            if pid in self.children and number == SHOW_STACKS:
                # Programs of the group know nothing of it, and would die of it.
                os.kill(pid, number)
            elif pid in self.children:
                _kill_group(pid, number)
        return bool(said)

    def _fork(self, job: socket.socket, stacks: int) -> None:
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            _say(job, {"refused": str(error)})
            job.close()
        else:
            if not pid:
                self._be_child(job, stacks, parent)
            # In both, so that neither can be too early.
            with contextlib.suppress(OSError):
                os.setpgid(pid, pid)
            self.children[pid] = job
            _say(job, {"pid": pid})
        os.close(stacks)

    def _be_child(self, job: socket.socket, stacks: int, parent: int) -> None:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (*ASKED, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            os.setpgid(0, 0)
            # What goes into a session of its own stays in its family all the same.
            adopt_orphans()
            die_with_parent(parent, signal.SIGKILL)
            self.control.close()
            for other in self.children.values():
                other.close()
            self.body(job, stacks)
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        finally:
            # What the task has printed; nothing else is for this copy to tidy up.
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        for pid in list(self.children):
            # Before it is reaped, while its number can belong to nobody else.
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            _kill_group(pid, signal.SIGKILL)
            _pid, status, usage = os.wait4(pid, 0)
            self._end_orphans()
            with self.children.pop(pid) as job:
                _say(
                    job,
                    {
                        "exit": os.waitstatus_to_exitcode(status),
                        "memory": peak(usage),
                        "cpu": round(usage.ru_utime + usage.ru_stime, 3),
                    },
                )

    def _end_orphans(self) -> None:
        """Kill what dead children have left, which has become ours by their death."""
        deadline = time.monotonic() + LAST
        while time.monotonic() < deadline:
            left = [pid for pid in children_of(os.getpid()) if pid not in self.children]
            if not left:
                return
            for pid in left:
                _kill_group(pid, signal.SIGKILL)
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            time.sleep(0.001)


def _kill_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _say(job: socket.socket, message: dict[str, object]) -> None:
    # On a line of its own: a killed child may have left half of one.
    with contextlib.suppress(OSError):
        job.sendall(b"\n" + json.dumps(message).encode() + b"\n")
