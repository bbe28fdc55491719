"""
The talk with a sandbox while it lives: the run goes in, its answer comes out.

Both go over a socket, to the first who connects: process 1, before it runs anything.
In a file an answer could grow until the host is full; here it takes what a socket does.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Bytes of an answer that are read.
MOST = 1 << 20
# Seconds until a sandbox that did not take a signal, being made, is sent it again.
AGAIN = 0.3


class Talk:
    """One sandbox's, on a socket of its own; ``answer`` is what it has said."""

    def __init__(self, path: Path, said: bytes) -> None:
        # Who waits for the sandbox, and then the sandbox.
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.setblocking(False)
        self._socket.bind(str(path))
        # It is in a directory of ours alone, and in the sandbox.
        path.chmod(0o666)
        self._socket.listen(1)
        self._left, self.answer = memoryview(said), bytearray()
        self._is_connected = self._is_over = False

    def close(self) -> None:
        """Say and hear no more."""
        self._socket.close()

    def wait(
        self, started: subprocess.Popen[bytes], pass_on: Callable[[], bool]
    ) -> tuple[int, bool]:
        """
        Talk until the sandbox has ended; the exit status, and whether it was told to.

        SIGTERM does not end this process. It is passed on, each once.
        """
        with _told() as (told, wake):
            ended, passed = os.pidfd_open(started.pid), 0
            try:
                while not self._look(ended, wake, hurry=len(told) > passed):
                    count = len(told)
                    if count > passed and pass_on():
                        passed = count
            finally:
                os.close(ended)
            return started.wait(), bool(told)

    def _look(self, ended: int, wake: int, *, hurry: bool) -> bool:
        reading: list[int | socket.socket] = [ended, wake]
        if not self._is_over:
            reading.append(self._socket)
        writing = [self._socket] if self._left and self._is_connected else []
        pause = AGAIN if hurry else None
        ready, writable, _ = select.select(reading, writing, [], pause)
        if writable:
            with suppress(BlockingIOError):
                self._say()
        if self._socket in ready or ended in ready:
            self._hear()
        if wake in ready:
            os.read(wake, 1024)
        return ended in ready

    def _say(self) -> None:
        try:
            self._left = self._left[self._socket.send(self._left) :]
        except ConnectionError:
            # There is nobody any more; what it exits with says more.
            self._left = self._left[:0]

    def _hear(self) -> None:
        with suppress(BlockingIOError, ConnectionError):
            if not self._is_connected:
                connected, _address = self._socket.accept()
                self._socket.close()
                connected.setblocking(False)
                self._socket, self._is_connected = connected, True
            while not self._is_over:
                data = self._socket.recv(1 << 16)
                self.answer += data
                self._is_over = not data or len(self.answer) > MOST


@contextmanager
def _told() -> Iterator[tuple[list[int], int]]:
    """SIGTERMs that come, and a descriptor that can be read when one has."""
    told: list[int] = []
    wake, poke = os.pipe()
    os.set_blocking(poke, False)
    # Not SIG_IGN, which the sandbox would inherit.
    signal.signal(signal.SIGTERM, lambda number, _frame: told.append(number))
    before = signal.set_wakeup_fd(poke, warn_on_full_buffer=False)
    try:
        yield told, wake
    finally:
        signal.set_wakeup_fd(before)
        os.close(wake)
        os.close(poke)
