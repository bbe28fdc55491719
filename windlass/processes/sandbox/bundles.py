"""
The directories of sandboxes: made private, locked while somebody uses them, removed.

Whoever runs a sandbox holds a lock on its directory. The system opens it when he dies,
however he does, so what is not locked belongs to nobody and is removed by whoever
comes by: first the sandbox, by the runtime that made it, and then the directory.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import shutil
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from windlass.processes.conf import SETTING, ProcessOptions
from windlass.processes.sandbox.layout import PEOPLE, Layout
from windlass.processes.sandbox.runtimes import Runtime
from windlass.runtime import ledger

logger = logging.getLogger("windlass")

# Seconds in which a directory without a sandbox may still get one.
YOUNG = 60.0
MOUNTS, ESCAPED = Path("/proc/self/mountinfo"), re.compile(r"\\(\d{3})")


class Unsafe(Exception):
    """A directory for sandboxes could be used by others."""


def name_of(path: str) -> str:
    """What the sandbox of the attempt is called that listens there."""
    return f"wl-{Path(path).stem.replace('.', '-')}"


def root_of(options: ProcessOptions) -> Path:
    """Where sandboxes are kept, on this host."""
    own = options.sandbox_state_root
    return Path(own) if own else ledger.path_of(0).parent / "sandboxes"


class Bundle:
    """The directory of one sandbox, and the lock that says it is in use."""

    def __init__(self, root: Path, name: str) -> None:
        self.name, self.root = name, root
        self.path, self.state = root / "bundles" / name, root / "state"
        self.rootfs, self.log = self.path / "rootfs", self.path / "runtime.log"
        self._lock: int | None = None

    @classmethod
    def of(cls, options: ProcessOptions, name: str) -> Bundle:
        """The bundle of a name, which need not be there."""
        return cls(root_of(options), name)

    def make(self, runtime: Runtime) -> None:
        """Make the directory; Unsafe if others could get at it."""
        # The first is where the socket of the log is.
        sockets = ledger.path_of(0).parent
        for path in (sockets, self.root, self.state, self.path.parent):
            _make_private(path)
        self.path.mkdir(mode=0o700)
        self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        said = [runtime.program, runtime.kind, list(runtime.arguments)]
        self.write("runtime", said)

    def furnish(self, seen: Layout, places: Iterable[str]) -> None:
        """Make the root: a place for each mount and for more files, and the links."""
        for path in ("dev/shm", "proc", "tmp", "etc"):
            self._directory(self.rootfs / path)
        # runc gives what it mounts there the mode of what was there.
        (self.rootfs / "tmp").chmod(0o1777)
        for name, text in PEOPLE.items():
            (self.rootfs / name).write_text(text)
        for path in sorted(seen.mounts, key=lambda path: path.count("/")):
            if not _is_below(path, seen.mounts):
                self._place(path, is_directory=os.path.isdir(path))
        for path in places:
            self._place(path, is_directory=False)
        for path, target in seen.links.items():
            self._directory((self.rootfs / path[1:]).parent)
            (self.rootfs / path[1:]).symlink_to(target)

    def _place(self, path: str, *, is_directory: bool) -> None:
        place = self.rootfs / path[1:]
        self._directory(place if is_directory else place.parent)
        if not is_directory:
            place.touch()

    def _directory(self, path: Path) -> None:
        # Everybody inside passes through them, whatever the worker's umask.
        if not path.is_dir():
            self._directory(path.parent)
            path.mkdir()
            path.chmod(0o755)

    def write(self, name: str, said: Any) -> None:
        """Write a file as JSON."""
        (self.path / name).write_text(json.dumps(said))

    def remove(self) -> None:
        """Kill the sandbox if it is alive, and remove all of it. Again is harmless."""
        if not self.path.is_dir():
            return
        with suppress(OSError, ValueError):
            program, kind, arguments = json.loads((self.path / "runtime").read_text())
            if any(self.state.glob(f"{self.name}*")):
                made_by = Runtime(program, kind, tuple(arguments))
                made_by.tell(self.state, "delete", "--force", self.name)
        if _is_mounted_below(self.path):
            # What is mounted there is the project, and is not to be deleted.
            logger.error("Something is still mounted in %s, so it stays.", self.path)
            return
        shutil.rmtree(self.path, ignore_errors=True)
        _remove_rest(self.state, self.name)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def sweep(options: ProcessOptions, *, now: float | None = None) -> None:
    """Remove the sandboxes of whoever is dead."""
    root = root_of(options)
    for path in (root / "bundles").glob("*"):
        with suppress(OSError):
            found = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
                made = os.fstat(found).st_mtime
                is_young = made > (now or time.time()) - YOUNG
                if (path / "runtime").exists() or not is_young:
                    Bundle(root, path.name).remove()
            finally:
                os.close(found)


def _remove_rest(state: Path, name: str) -> None:
    # gVisor leaves its lock behind if it is killed while it starts.
    for path in state.glob(f"{name}*"):
        if path.is_dir() and not _is_mounted_below(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def _make_private(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if (
        not stat.S_ISDIR(found.st_mode)
        or found.st_uid != os.geteuid()
        or stat.S_IMODE(found.st_mode) & 0o077
    ):
        mode = f"{stat.S_IMODE(found.st_mode):04o}"
        raise Unsafe(
            f"{path} is to be a directory of user {os.geteuid()} with mode 0700, and "
            f"is of user {found.st_uid} with mode {mode}, so no sandbox was started. "
            f'Remove it, or set {SETTING}["SANDBOX_STATE_ROOT"] to another one.'
        )


def _is_below(path: str, others: dict[str, bool]) -> bool:
    return any(path.startswith(f"{other}/") for other in others)


def _is_mounted_below(path: Path) -> bool:
    try:
        lines = MOUNTS.read_text().splitlines()
    except OSError:
        return False
    # A space in a path is \\040 there.
    places = [ESCAPED.sub(lambda said: chr(int(said[1], 8)), each) for each in lines]
    return any(f" {path}/" in place for place in places)
