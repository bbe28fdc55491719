"""
Notes to who follows a log: there is more of it, or its process has ended.

A note goes with the commit of what it is about, one for each block of lines, by whoever
carries the notes of the backend that runs processes: the database, if it can, or Redis.
It names the process and nothing else, and may be lost.
"""

from __future__ import annotations

import hashlib

from windlass import conf as engine
from windlass import db
from windlass.db.lines import lines_channel
from windlass.jobs.wakeups import ByDatabase, Ear, Wakeups, wakeups
from windlass.processes import conf

# PostgreSQL takes 8,000 bytes at most, and a key may be any text.
MOST = 200


def note_of(name: str) -> str:
    """What a process is called in notes."""
    if len(name) <= MOST:
        return name
    return hashlib.sha256(name.encode()).hexdigest()


def tell(name: str, database: str) -> None:
    """Wake who follows a process, at the caller's commit."""
    _carrier().tell(_channel(), note_of(name), db.dialect(database))


def listen(database: str) -> Ear | None:
    """Make an ear for the notes of a database; None if nobody carries any."""
    return _carrier().listen(_channel(), db=db.dialect(database))


def _carrier() -> Wakeups:
    alias = conf.options().tasks_alias
    if alias in engine.aliases():
        return wakeups(engine.options(alias))
    # Processes are run by a backend of another make.
    return ByDatabase()


def _channel() -> str:
    return lines_channel(conf.options().tasks_alias)
