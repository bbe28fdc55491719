"""
The end of a log's socket that is in the worker: who reads what a run says.

Whoever has the path may connect, and it is in a directory of the worker's user alone.
Each connection brings lines of JSON; the run also hands over the pipes of its output.
Nothing here waits for the database, so a run is not held up by what it has locked.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from windlass.processes.collector import Collector
from windlass.processes.lines import LEVEL_OF_OUTPUT, MOST, Line, clean
from windlass.processes.sandbox import border
from windlass.runtime import ledger

logger = logging.getLogger("windlass")

CHUNK = 1 << 18
# Seconds between looks: what comes meanwhile is read at once, and wakes nobody.
REST = 0.004
# Seconds for what a run has said before its end, and somebody may go on saying.
DRAIN = 2.0
# How often in a look those are read that may say more and more.
ROUNDS = 8
YOUNG = 60.0


def path_of(job_id: str, claim: int) -> str:
    """Where the run of a job listens, on this host."""
    # Short, for the path of a socket has 108 bytes at most.
    return str(ledger.path_of(0).parent / f"{job_id.replace('-', '')}.{claim}.log")


def sweep(*, now: float) -> None:
    """Delete the sockets of workers that were killed."""
    for path in ledger.path_of(0).parent.glob("*.log"):
        with suppress(OSError), socket.socket(socket.AF_UNIX) as knocking:
            # One that is younger may be about to listen.
            if path.stat().st_mtime < now - YOUNG:
                try:
                    knocking.connect(str(path))
                except ConnectionRefusedError:
                    path.unlink()


class Listener:
    """
    Reads what one run says, in a thread of its own, for its collector.

    A wary one believes only its first connection, whose run is not in a sandbox yet.
    """

    def __init__(
        self,
        path: str,
        collector: Collector,
        *,
        is_wary: bool = False,
        asked_to_end: Callable[[], None] | None = None,
    ) -> None:
        self.path, self.collector, self.is_wary = path, collector, is_wary
        self.is_first = True
        self.asked_to_end = asked_to_end
        self.selector = selectors.DefaultSelector()
        self.close_at: float | None = None
        self._wake, self._told = os.pipe()
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with suppress(FileNotFoundError):
            os.unlink(path)
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listening.bind(path)
        self.listening.listen(64)
        self.selector.register(self.listening, selectors.EVENT_READ, self._accept)
        self.selector.register(self._wake, selectors.EVENT_READ, self._read_wake)
        self.thread = threading.Thread(
            target=self._listen, name="windlass-log-reader", daemon=True
        )

    def start(self) -> None:
        """Begin to listen."""
        self.thread.start()

    def close(self) -> None:
        """Read what was said so far, and end."""
        with suppress(FileNotFoundError):
            os.unlink(self.path)
        self.close_at = time.monotonic() + DRAIN
        with suppress(OSError):
            os.write(self._told, b"!")
        self.thread.join(DRAIN + 1.0)

    def _listen(self) -> None:
        try:
            while self._look(None if self.close_at is None else 0.0):
                pass
        except Exception:
            logger.exception("The log of a process cannot be read any more.")
        finally:
            for key in list(self.selector.get_map().values()):
                self._forget(key.fileobj, key.data)
            self.selector.close()
            os.close(self._told)

    def _look(self, timeout: float | None) -> bool:
        """Read what there is; False when that is all, and it is time to end."""
        ready = found = self.selector.select(timeout)
        # What Python said was said before now, which is when a program's lines count as
        # said. So a log begins with what it began with.
        for _ in range(ROUNDS):
            said = [key for key, _ in found if not isinstance(key.data, Output)]
            for key in said:
                key.data(key.fileobj)
            if not said:
                break
            found = self.selector.select(0)
        self._read_outputs()
        if self.close_at is None:
            time.sleep(REST)
            return True
        return bool(ready) and time.monotonic() < self.close_at

    def drain(self) -> None:
        """Take what was printed by now, before what is said next."""
        for _ in range(64):
            if not self._read_outputs():
                return

    def _read_outputs(self) -> bool:
        # Nothing else: whoever has asked for it reads the others, each once.
        found = [key for key, _ in self.selector.select(0)]
        outputs = [key for key in found if isinstance(key.data, Output)]
        for key in outputs:
            key.data(key.fileobj)
        return bool(outputs)

    def _accept(self, listening: Any) -> None:
        connection, _address = self.listening.accept()
        is_wary = self.is_wary and not self.is_first
        self.is_first = False
        if is_wary and len(self.selector.get_map()) > border.CONNECTIONS:
            connection.close()
            return
        reader = Connection(self, connection, is_wary=is_wary)
        self.selector.register(connection, selectors.EVENT_READ, reader)

    def _read_wake(self, wake: Any) -> None:
        os.read(self._wake, 1024)

    def capture(self, stream: str, output: int) -> None:
        """Read lines from a pipe."""
        os.set_blocking(output, False)
        self.selector.register(output, selectors.EVENT_READ, Output(self, stream))

    def flush(self) -> bool:
        """Store what was said so far."""
        self.drain()
        return self.collector.flush()

    def _forget(self, file: Any, reader: Any) -> None:
        if isinstance(reader, Output):
            reader.end()
        self.forget(file)

    def forget(self, file: Any) -> None:
        """Read from a file no more."""
        self.selector.unregister(file)
        with suppress(OSError):
            if isinstance(file, int):
                os.close(file)
            else:
                file.close()


class Connection:
    """What one interpreter says: lines of JSON, and pipes beside them."""

    def __init__(
        self, listener: Listener, connection: socket.socket, *, is_wary: bool
    ) -> None:
        self.listener, self.connection, self.is_wary = listener, connection, is_wary
        self.rest = b""
        self.files: list[int] = []

    def __call__(self, file: Any) -> None:
        try:
            data, files, _flags, _from = socket.recv_fds(self.connection, CHUNK, 4)
        except OSError:
            data, files = b"", []
        if self.is_wary:
            for file in files:
                os.close(file)
        else:
            self.files += files
        if not data or (self.is_wary and len(self.rest) > border.MOST):
            # Half a line is what a killed process leaves.
            self.listener.forget(self.connection)
            return
        whole, newline, rest = (self.rest + data).rpartition(b"\n")
        self.rest = rest
        if newline:
            self._take(whole)

    def _take(self, whole: bytes) -> None:
        try:
            # All at once, which is a third of the work of each.
            items = json.loads(b"[" + whole.replace(b"\n", b",") + b"]")
        except (ValueError, RecursionError):
            items = []
            for each in whole.split(b"\n"):
                with suppress(ValueError, RecursionError):
                    items.append(json.loads(each))
        if self.is_wary:
            items = border.admitted(items)
        lines: list[Line] = []
        for item in items:
            if type(item) is list:
                lines.append(Line._make(item))
            else:
                self._obey(item, lines)
        if lines:
            self.listener.collector.take(lines)

    def _obey(self, item: dict[str, Any], lines: list[Line]) -> None:
        if "progress" in item:
            self.listener.collector.progress(item["progress"])
        elif "capture" in item:
            self.listener.capture(item["capture"], self.files.pop(0))
        elif "end" in item and self.listener.asked_to_end is not None:
            self.listener.asked_to_end()
        elif "drain" in item:
            self._take_so_far(lines)
            self.listener.drain()
        elif "flush" in item:
            self._take_so_far(lines)
            if self.listener.flush():
                with suppress(OSError):
                    self.connection.sendall(b"+")

    def _take_so_far(self, lines: list[Line]) -> None:
        self.listener.collector.take(lines[:])
        lines.clear()


class Output:
    """What a run prints: lines of text, as far as they are whole."""

    def __init__(self, listener: Listener, stream: str) -> None:
        self.listener, self.stream = listener, stream
        self.rest = b""

    def __call__(self, file: Any) -> None:
        try:
            data = os.read(file, CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.end()
            self.listener.forget(file)
            return
        *whole, self.rest = (self.rest + data).split(b"\n")
        if len(self.rest) > MOST:
            whole.append(self.rest)
            self.rest = b""
        self._say(whole)

    def end(self) -> None:
        """Take what came without an end of its own."""
        if self.rest:
            self._say([self.rest])
            self.rest = b""

    def _say(self, whole: list[bytes]) -> None:
        now, level = time.time(), LEVEL_OF_OUTPUT[self.stream]
        lines = [
            # A bar that was drawn over and over is what it was in the end.
            Line(now, level, self.stream, clean(text.rpartition("\r")[2] or text))
            for text in (each.decode(errors="replace").rstrip("\r") for each in whole)
        ]
        if lines:
            self.listener.collector.take(lines)
