"""
Surviving a lost database: say it once, wait a little longer each time, go on.

Every loop of the runtime that talks to the database does so through an Outage, so a
restart of the server costs log lines and seconds and no process.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from django.db import InterfaceError, OperationalError

from windlass.db import Dialect

logger = logging.getLogger("windlass")

LOST = (OperationalError, InterfaceError)
FIRST, CEILING = 0.1, 5.0
# Lost this often in a row, a race for a lock is an outage too.
MOST_CONFLICTS = 10


class Outage:
    """What one loop knows about the database being away."""

    def __init__(self, who: str, db: Dialect) -> None:
        self.who, self.db = who, db
        self.since: float | None = None
        self._failures = 0
        self._conflicts = 0

    def began(self, error: BaseException) -> float:
        """Note a failure and drop the connection; give back seconds to wait."""
        if self._conflicts < MOST_CONFLICTS and self.db.is_conflict(error):
            self._conflicts += 1
            return random.uniform(0, 0.02) * self._conflicts
        if self.since is None:
            self.since = time.monotonic()
            logger.warning(
                "%s: the database %r does not answer (%s). Trying again until it does.",
                self.who,
                self.db.database,
                str(error).strip(),
            )
        self._failures += 1
        self._drop_connection()
        longest = min(CEILING, FIRST * 2 ** min(self._failures, 10))
        return float(longest * random.uniform(0.5, 1))

    def ended(self) -> None:
        """Note that the database answers."""
        self._conflicts = 0
        if self.since is not None:
            seconds = time.monotonic() - self.since
            logger.warning(
                "%s: the database answers again, %.1f s later.", self.who, seconds
            )
            self.since, self._failures = None, 0

    def _drop_connection(self) -> None:
        try:
            self.db.close()
        except LOST as error:
            logger.debug("%s: closing a broken connection: %s", self.who, error)

    def persist(
        self,
        action: Callable[[], object],
        *,
        wait: Callable[[float], bool],
    ) -> bool:
        """Repeat an action until the database took it; False if ``wait`` says stop."""
        while True:
            try:
                action()
            except LOST as error:
                if wait(self.began(error)):
                    return False
            else:
                self.ended()
                return True
