"""
Telling who waits that jobs have ended, a moment after it was recorded.

Only while somebody waits: who does says so to all workers now and then. One note
names many jobs, and if one is lost, who waits finds out by looking.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from windlass import conf
from windlass.db import Dialect, ends_channel
from windlass.jobs.wakeups import wakeups
from windlass.runtime.outage import LOST

logger = logging.getLogger("windlass")

# A note may have 8,000 bytes, and an id has 36.
IDS_IN_A_NOTE = 200


def tell_ends(db: Dialect, backend_alias: str, ids: Sequence[str]) -> None:
    """Tell of jobs that have ended, by the caller's connection if by the database."""
    channel, carrier = ends_channel(backend_alias), wakeups(conf.options(backend_alias))
    try:
        for start in range(0, len(ids), IDS_IN_A_NOTE):
            carrier.tell(channel, " ".join(ids[start : start + IDS_IN_A_NOTE]), db)
    except LOST as error:
        # The next write meets the same outage.
        logger.debug("The ends of %s jobs were not told: %s", len(ids), error)
