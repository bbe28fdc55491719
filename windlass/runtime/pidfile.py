"""
The pid file of a supervisor: who runs here, and that no second one does.

Beside the pid it holds when that process started and where, so that a pid which was
given to another process since is not mistaken for a runtime.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

from windlass.exceptions import ConfigurationError
from windlass.runtime import identity

logger = logging.getLogger("windlass")


class Pidfile:
    """A file that names this process while it runs; without a path, none."""

    def __init__(self, path: str | None) -> None:
        self.path = None if path is None else Path(path)
        pid = os.getpid()
        self.text = f"{pid}\n{identity.process_start(pid)}\n{identity.host()}\n"

    def __enter__(self) -> Pidfile:
        if self.path is not None:
            try:
                self._write(self.path)
            except OSError as error:
                raise ConfigurationError(
                    f"supervisor_pidfile {self.path} cannot be written: {error}. "
                    "Nothing was started. Correct the path, or its permissions."
                ) from error
        return self

    def __exit__(self, *error: object) -> None:
        # Not the file of another that has taken the place.
        if self.path is not None and _read(self.path) == self.text:
            with suppress(OSError):
                self.path.unlink()

    def _write(self, path: Path) -> None:
        own = path.with_name(f".{path.name}.{os.getpid()}")
        own.write_text(self.text)
        try:
            # A link is made whole and only where nothing is: two that start at once
            # cannot both make it.
            try:
                os.link(own, path)
            except FileExistsError:
                self._refuse_if_alive(path)
                os.replace(own, path)
        finally:
            own.unlink(missing_ok=True)

    def _refuse_if_alive(self, path: Path) -> None:
        said = _read(path)
        pid, started, host = [*said.splitlines(), "", "", ""][:3]
        here = host in ("", identity.host())
        # A file of another program may hold the pid alone.
        since = int(started) if started.isdigit() else 0
        is_other = here and pid.isdigit() and int(pid) != os.getpid()
        if is_other and identity.is_running(int(pid), since):
            raise ConfigurationError(
                f"supervisor_pidfile {path}: process {pid} runs already, so "
                "nothing was started. Stop it first, or name another file."
            )
        logger.warning(
            "supervisor_pidfile %s: replacing a stale file (process %s).",
            path,
            pid or "unknown",
        )


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
