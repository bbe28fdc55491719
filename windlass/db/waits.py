"""
Putting jobs back that wait for an event.

An event may have come since the attempt looked for it, and while the job was held its
sender could not make it ready. So who puts it back looks again, in the same
transaction; the other half of this is in ``windlass.events``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from windlass.db import rare
from windlass.db.base import Dialect
from windlass.db.records import Returned
from windlass.models.memos import Event


def put_back(db: Dialect, node: int, returns: Sequence[Returned]) -> set[str]:
    """Return held jobs to waiting, as the dialect does, and see to their events."""
    waits = [back for back in returns if back.awaits]
    if not waits:
        return db.put_back(node, returns)
    with db.transaction():
        moved = db.put_back(node, returns)
        waits = [back for back in waits if back.id in moved]
        rare.hasten(db, _answered(db, waits))
    return moved


def _answered(db: Dialect, waits: Iterable[Returned]) -> list[str]:
    events = Event.objects.using(db.database)
    found = []
    for back in waits:
        assert back.awaits is not None
        name, taken = back.awaits
        if events.filter(job=back.id, name=name).count() > taken:
            found.append(back.id)
    return found
