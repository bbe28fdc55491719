"""
Numbering lines and storing them, in the thread that calls.

A writer believes it knows the last number, for it is mostly alone. Where it is wrong
the unique constraint says so, nothing was written, and it looks and numbers anew. So
numbers have no gaps, and no counter is locked by anybody's open transaction.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from django.db import DatabaseError, IntegrityError, connections, transaction
from django.db.models import QuerySet

from windlass import db
from windlass.db.lines import Lines
from windlass.processes import notes
from windlass.processes.capping import Cap
from windlass.processes.lines import SYSTEM, Line, Target

logger = logging.getLogger("windlass")

# Of so many conflicts in a row somebody should hear.
MOST_CONFLICTS = 500


class Gone(Exception):
    """The process was deleted, and its log with it."""


class Writer:
    """Stores the lines of one process."""

    def __init__(self, target: Target, *, most: int | None = None) -> None:
        self.target, self.most = target, most
        self.lines = Lines(target.model, target.database)
        self.last: int | None = None
        self.cap: Cap | None = None
        self._has_noticed = False

    def write(self, lines: Sequence[Line]) -> None:
        """Store lines under the next numbers; Gone if there is nobody to say it of."""
        own, table = self.target, self.lines
        for conflicts in range(MOST_CONFLICTS + 1):
            try:
                if self.last is None:
                    self.last = table.last(own.process_id)
                with transaction.atomic(using=own.database):
                    table.append(own.process_id, self.last + 1, lines, own.attempt)
                    notes.tell(own.name, own.database)
            except DatabaseError as error:
                self.last = None
                if isinstance(error, IntegrityError):
                    if not table.process_exists(own.process_id):
                        raise Gone from error
                elif not db.dialect(own.database).is_conflict(error):
                    raise
                if conflicts == MOST_CONFLICTS:
                    raise
                time.sleep(random.uniform(0, 0.002 * min(conflicts, 20)))
            else:
                if self.cap is None and self.most is not None:
                    self.cap = Cap(self.last + 1, self.most)
                self.last += len(lines)
                return

    def leave_out(self, *, exactly: bool = False) -> None:
        """
        Delete lines from the middle of what is longer than it may be.

        What the supervision said stays. To be called again and again; ``exactly`` does
        not wait until there are many.
        """
        if self.cap is None or self.last is None:
            return
        while numbers := self.cap.excess(self.last, exactly=exactly):
            if not self._has_noticed:
                self.write([self.cap.notice()])
                self._has_noticed = True
            try:
                self.lines.remove(self.target.process_id, numbers, but=SYSTEM)
            except IntegrityError as error:
                # Other rows of the project need them; another try would fail as well.
                self.cap = self.most = None
                logger.warning(
                    "The log of %s cannot be kept within LOG_LIMIT: %s",
                    self.target.name,
                    error,
                )
                return
            self.cap.left_out(numbers)

    def progress(self, said: dict[str, Any]) -> bool:
        """Store progress, unless somebody has the process's row locked just now."""
        model: Any = self.target.model
        owner = model._meta.get_field("process").related_model
        owner = owner._meta.get_field("progress_data").model
        rows: Any = QuerySet(owner, using=self.target.database)
        found = rows.filter(**self._is_process(owner), status="running")
        features = connections[self.target.database].features
        if features.has_select_for_update_skip_locked:
            # A user's transaction may have it for long, and no line waits for that.
            with db.dialect(self.target.database).transaction():
                free = found.select_for_update(skip_locked=True)
                if not list(free.values_list("pk", flat=True)):
                    return False
                found.update(progress_data=said)
        else:
            found.update(progress_data=said)
        return True

    def _is_process(self, owner: Any) -> dict[str, Any]:
        model: Any = self.target.model
        named = model._meta.get_field("process")
        if owner is named.related_model:
            return {named.target_field.attname: self.target.process_id}
        # The log belongs to a child of the model that has the status.
        child: Any = QuerySet(named.related_model, using=self.target.database)
        name = named.target_field.attname
        ids = child.filter(**{name: self.target.process_id}).values_list("pk")
        return {"pk__in": list(ids.values_list("pk", flat=True))}

    def close(self) -> None:
        """Drop the calling thread's connection."""
        with suppress(DatabaseError):
            connections[self.target.database].close()
