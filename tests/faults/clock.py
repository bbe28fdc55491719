"""
Setting the clock of a runtime's processes, and of nobody else.

The machine's clock belongs to everyone on it, so this is a simulation: a library that
is loaded before all others (``clock.c``) answers the processes when they ask the C
library for the time of day. Python does, and so does SQLite in those processes; a
database server is another machine here, and keeps its time.
"""

import mmap
import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("clock.c")
OFFSET = struct.Struct("=q")


class Clock:
    """The time of day in some processes, as seconds away from the true one."""

    @staticmethod
    def exists():
        """Whether there is a compiler to make one with."""
        return shutil.which("cc") is not None

    def __init__(self, directory):
        self.library = directory / "clock.so"
        build = ["cc", "-shared", "-fPIC", "-O1", "-o", self.library, SOURCE]
        subprocess.run(build, check=True)
        self.path = directory / "clock"
        self.path.write_bytes(bytes(OFFSET.size))
        with self.path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), OFFSET.size)
        # Loaded by every program that is started with them, at its start.
        self.environment = {
            "LD_PRELOAD": str(self.library),
            "WINDLASS_TEST_CLOCK": str(self.path),
        }

    def set(self, seconds):
        """Let the processes be this far ahead of the time, or behind it."""
        OFFSET.pack_into(self._map, 0, round(seconds * 1e9))
