"""
The beat of a supervision: it says that a run is alive, and sees what its row says.

In a thread and by a connection of its own: a run may hold the lock of its row for as
long as it likes, and neither that nor a database that is away may hold up the ladder.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from django.db import DatabaseError, InterfaceError, connections, transaction
from django.utils import timezone

from windlass.contrib.celery.tokens import Token, is_cancelled
from windlass.processes import moves

if TYPE_CHECKING:
    from windlass.processes.models import BaseProcess

logger = logging.getLogger("windlass")

# Seconds between two beats.
EVERY = 10.0


class Beat:
    """Beats from ``start`` to ``stop``; says once if the run is to end."""

    def __init__(
        self,
        process: BaseProcess,
        token: Token,
        *,
        cancelled: Callable[[], None],
        lost: Callable[[], None],
    ) -> None:
        self.process, self.token = process, token
        self.cancelled, self.lost = cancelled, lost
        self.stopped = threading.Event()
        self.thread = threading.Thread(
            target=self._beat, name="windlass-beat", daemon=True
        )

    def start(self) -> None:
        """Begin to beat."""
        self.thread.start()

    def stop(self) -> None:
        """Beat no more. One that waits for the database may still do so."""
        self.stopped.set()

    def _beat(self) -> None:
        database = self.process._windlass_database()
        while not self.stopped.wait(EVERY):
            try:
                if not self._look():
                    return
            except (DatabaseError, InterfaceError) as error:
                logger.debug("%s has no beat: %s", self.process, error)
            finally:
                connections[database].close()

    def _look(self) -> bool:
        rows = moves.rows(self.process)
        row = rows.filter(self.token.holds()).first()
        if row is None:
            self.lost()
            return False
        if is_cancelled(row):
            self.cancelled()
        database = self.process._windlass_database()
        features = connections[database].features
        with transaction.atomic(using=database):
            free = rows.filter(self.token.holds())
            if features.has_select_for_update_skip_locked:
                # Whoever has it locked is alive, and the run may be that.
                free = free.select_for_update(skip_locked=True)
                if not list(free.values_list("pk", flat=True)):
                    return True
            free.update(modified=timezone.now())
        return True
