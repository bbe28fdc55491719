"""
The end of a log's socket that is in a process of its own, and in what that one starts.

A line is out of the process when ``log()`` comes back, so no kill takes it along. The
socket is found by the environment, so interpreters that a run starts may log as well.
Each interpreter has a connection of its own, a copy by fork too.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from windlass.processes import lines
from windlass.processes.lines import Line

if TYPE_CHECKING:
    from windlass.processes.models import BaseProcess

ENV = "WINDLASS_PROCESS_LOG"
# Seconds that a run waits at its end for its last lines to be stored.
PATIENCE = 10.0

# Python makes an encoder anew for each call of dumps().
_quoted = json.encoder.encode_basestring_ascii


def name_of(process: BaseProcess) -> str:
    """What a process is called in every interpreter."""
    return f"{lines.name_of(process)}@{process._windlass_database()}"


class Link:
    """Sends lines to the collector of a run. From any thread."""

    def __init__(self, path: str, name: str) -> None:
        self.path, self.name = path, name
        self._begin_anew()
        os.register_at_fork(after_in_child=self._begin_anew)

    def _begin_anew(self) -> None:
        # A fork has its parent's connection, and perhaps a lock that nobody will open.
        self.lock = threading.Lock()
        self.socket: socket.socket | None = None
        self.is_broken = False

    def connect(self) -> None:
        """Connect now; OSError if nobody collects there."""
        connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connecting.connect(self.path)
        except OSError:
            connecting.close()
            raise
        self.socket = connecting

    def environment(self) -> dict[str, str]:
        """What a program that is to log to the same place has to be told."""
        return {ENV: json.dumps({"path": self.path, "name": self.name})}

    def log(self, line: Line) -> None:
        """Send a line. If nobody takes it, it is lost, and the run goes on."""
        created, level, stream, message = line
        self._send(f'[{created!r},"{level}","{stream}",{_quoted(message)}]')

    def progress(self, said: dict[str, Any]) -> None:
        """Send progress."""
        self._send(json.dumps({"progress": said}))

    def capture(self, stream: str, output: int) -> None:
        """Have the collector read lines from a pipe."""
        self._send(json.dumps({"capture": stream}), [output])

    def drain(self) -> None:
        """Have what programs have printed by now come before what is said next."""
        self._send('{"drain":1}')

    def flush(self) -> bool:
        """Wait until all that was said so far is stored; False if it takes long."""
        with self.lock:
            try:
                if self._is_open():
                    assert self.socket is not None
                    self.socket.sendall(b'{"flush":1}\n')
                    self.socket.settimeout(PATIENCE)
                    is_stored = self.socket.recv(1) == b"+"
                    self.socket.settimeout(None)
                    return is_stored
            except OSError:
                self._break_off()
            except BaseException:
                self._break_off()
                raise
        return False

    def _send(self, text: str, files: Sequence[int] = ()) -> None:
        data = text.encode() + b"\n"
        with self.lock:
            try:
                if not self._is_open():
                    return
                assert self.socket is not None
                if files:
                    socket.send_fds(self.socket, [data], list(files))
                else:
                    self.socket.sendall(data)
            except OSError:
                # Its worker is gone, and this process will be in a moment.
                self.is_broken = True
            except BaseException:
                self._break_off()
                raise

    def _break_off(self) -> None:
        # A signal's handler raises in between, say. The rest of what was begun is not
        # to be taken for the beginning of something else.
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def _is_open(self) -> bool:
        if self.socket is None and not self.is_broken:
            self.connect()
        return not self.is_broken
