"""
Keeping the runtime's own statements out of the log of SQL.

With ``DEBUG`` Django logs each statement. Loops that ask the database several times a
second would drown what tasks ask it, which run in other threads of the same process.
"""

from __future__ import annotations

import logging
import threading

from windlass.conf import Options

_here = threading.local()


def silence(options: Options) -> None:
    """Log no SQL of the calling thread any more, unless the options want it."""
    if options.silence_polling:
        _here.is_silent = True
        # Adding the same filter again changes nothing.
        logging.getLogger("django.db.backends").addFilter(_is_shown)


def _is_shown(record: logging.LogRecord) -> bool:
    return not getattr(_here, "is_silent", False)
