"""
Where a storm happens: a database that may be harmed, and what can be done to it.

Each is private: a server of the storm's own, or a file on a small disk of its own. A
machine that cannot make one (no programs, no right to mount) has a place without the
faults that need it, and ``missing`` says which.
"""

import os
import sqlite3
import subprocess
from contextlib import ExitStack, closing, contextmanager, suppress

from django.db import Error, connection

from tests import servers

SERVERS = {kind.engine: kind for kind in (servers.PostgreSQL, servers.MariaDB)}


class Place:
    """One database of a storm, with its server or its disk if those are its own."""

    def __init__(self, database):
        self.database = database
        self.environment = {"WINDLASS_TEST_DATABASE": database}
        self.server = self.disk = None
        self.missing = []

    @property
    def can_cut(self):
        """Whether connections can be ended from outside."""
        return self.database != "sqlite"

    def cut(self):
        """End every connection but ours."""
        with connection.cursor() as cursor:
            if self.database == "postgresql":
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                return
            cursor.execute(
                "SELECT id FROM information_schema.processlist"
                " WHERE db = DATABASE() AND id <> CONNECTION_ID()"
            )
            for (id,) in cursor.fetchall():
                # It may have gone by itself meanwhile.
                with suppress(Error):
                    cursor.execute(f"KILL CONNECTION {id:d}")

    def fill(self):
        """Leave the file system of the database no room."""
        # A log that has its length already would take writes for a while.
        file = connection.settings_dict["NAME"]
        with (
            suppress(sqlite3.Error),
            closing(sqlite3.connect(file, timeout=0.1)) as own,
        ):
            own.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.disk.fill()

    def free(self):
        """Give it room again."""
        self.disk.free()


class Disk:
    """A file system in memory, which can be made as small as what it holds."""

    def __init__(self, directory):
        self.directory = directory
        self._mount("size=2g,mode=700", "tmpfs", directory)

    def fill(self):
        """Leave room for a few pages of the database and no more."""
        for _ in range(10):
            size = self._used() + 32 * 1024
            # Not if it has grown beyond that in this moment.
            with suppress(subprocess.CalledProcessError):
                self._mount(f"remount,size={size}", "tmpfs", self.directory)
                return

    def free(self):
        """Let it grow again."""
        self._mount("remount,size=2g", "tmpfs", self.directory)

    def remove(self):
        """Unmount it, with all that it holds."""
        subprocess.run(["umount", "--lazy", self.directory], check=True)

    def _used(self):
        found = os.statvfs(self.directory)
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    def _mount(self, options, *what):
        command = ["mount", "-t", "tmpfs", "-o", options, *what]
        subprocess.run(command, check=True, capture_output=True)


@contextmanager
def place(database, directory):
    """Make the place of a storm; nothing of it is left in the end."""
    found = Place(database)
    with ExitStack() as stack:
        if database == "sqlite":
            _give_disk(found, directory / "disk", stack)
        elif SERVERS[database].exists():
            found.server = stack.enter_context(servers.private(SERVERS[database]))
            found.environment |= found.server.environment()
        else:
            found.missing.append(
                f"restarts: there are no programs to make a {database} server with"
            )
        yield found


def _give_disk(found, directory, stack):
    directory.mkdir()
    try:
        found.disk = Disk(directory)
        stack.callback(found.disk.remove)
    except (OSError, subprocess.CalledProcessError) as error:
        found.missing.append(f"a full disk: nothing can be mounted here ({error})")
    found.environment["WINDLASS_TEST_SQLITE_FILE"] = str(directory / "storm.sqlite3")
