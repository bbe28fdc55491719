"""
What a thread of the runtime does not share with those that run tasks.

Its statements stay out of the log of SQL: with ``DEBUG`` Django logs each, and loops
that ask the database several times a second would drown what tasks ask it. And its
transactions end when its process is silent for as long as makes a node dead, or else
a host that lost its power would lock rows until the server noticed, hours later.
"""

from __future__ import annotations

import logging
import threading

from windlass import db
from windlass.conf import Options

_here = threading.local()


def own_thread(options: Options) -> None:
    """Say that the calling thread belongs to the runtime, and runs no tasks."""
    db.end_idle_transactions(options.database_alias, options.process_alive_threshold)
    if options.silence_polling:
        _here.is_silent = True
        # Adding the same filter again changes nothing.
        logging.getLogger("django.db.backends").addFilter(_is_shown)


def lend_thread() -> None:
    """Say that the calling thread, or the copy of one, is the runtime's no more."""
    db.forget_bounds()
    _here.is_silent = False


def _is_shown(record: logging.LogRecord) -> bool:
    return not getattr(_here, "is_silent", False)
