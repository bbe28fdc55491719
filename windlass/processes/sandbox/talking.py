"""
The talk with a sandbox while it lives: the run goes in, its answer comes out.

Both go over a socket that is the standard input of the sandbox, so nothing has to be
reachable for that, and what a run answers takes the memory of a socket and no more.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

# Bytes of an answer that are read.
MOST = 1 << 20
# Seconds until a sandbox that did not take a signal, being made, is sent it again.
AGAIN = 0.3


class Talk:
    """One sandbox's: ``theirs`` is what it gets, ``answer`` what it has said."""

    def __init__(self, said: bytes) -> None:
        self._ours, self.theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._left, self.answer = memoryview(said), bytearray()
        self._is_over = False

    def close(self) -> None:
        """Say and hear no more."""
        self._ours.close()
        self.theirs.close()

    def wait(
        self, started: subprocess.Popen[bytes], pass_on: Callable[[], bool]
    ) -> tuple[int, bool]:
        """
        Talk until the sandbox has ended; the exit status, and whether it was told to.

        SIGTERM does not end this process. It is passed on, each once.
        """
        self.theirs.close()
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
            reading.append(self._ours)
        writing = [self._ours] if self._left else []
        pause = AGAIN if hurry else None
        ready, writable, _ = select.select(reading, writing, [], pause)
        if writable:
            with suppress(BlockingIOError):
                self._say()
        if self._ours in ready or ended in ready:
            self._hear()
        if wake in ready:
            os.read(wake, 1024)
        return ended in ready

    def _say(self) -> None:
        try:
            self._left = self._left[self._ours.send(self._left) :]
        except ConnectionError:
            # There is nobody any more; what it exits with says more.
            self._left = self._left[:0]

    def _hear(self) -> None:
        with suppress(BlockingIOError, ConnectionError):
            while not self._is_over:
                data = self._ours.recv(1 << 16)
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
