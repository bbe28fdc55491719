"""
The demo's working directory: the SQLite file and the runtime's log.

One demo at a time may use it. The lock goes with its process, however that
ends, so there is never a stale one to remove.
"""

import fcntl
from contextlib import contextmanager

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection


@contextmanager
def locked():
    """Own the working directory, or refuse: another demo is using it."""
    (settings.DEMO_DIR / ".gitignore").write_text("*\n")
    with open(settings.DEMO_DIR / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(
                f"Another demo is running in {settings.DEMO_DIR}: stop it first, "
                "or set DEMO_DIR to another directory."
            ) from None
        yield settings.DEMO_DIR


def forget_everything():
    """Remove the SQLite file of an earlier demo. A PostgreSQL database is kept."""
    connection.close()
    if connection.vendor == "sqlite":
        for file in settings.DEMO_DIR.glob("demo.sqlite3*"):
            file.unlink()


def prepare():
    """Bring the database up to date."""
    call_command("migrate", verbosity=0)


def database_name():
    """Name the database the way a person would."""
    settings_dict = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"SQLite, {settings_dict['NAME']}"
    return f"{connection.display_name}, database {settings_dict['NAME']}"
