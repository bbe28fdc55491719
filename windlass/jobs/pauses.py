"""
Pausing queues: each change is one transaction on the queue's row.

The claim itself asks for the row, so a pause needs no worker to hear of it.
"""

from __future__ import annotations

from django.db import transaction

from windlass.db import Dialect
from windlass.models.queues import Queue

# Pauses further back than this many do not count against a latency any more.
PAUSES_KEPT = 50


def pause(db: Dialect, backend_alias: str, name: str, reason: str) -> bool:
    """Let no claim take jobs of a queue; False if it was paused already."""
    with transaction.atomic(using=db.database):
        queue = _locked(db, backend_alias, name)
        if queue.is_paused:
            return False
        queue.paused_at, queue.pause_reason = db.now(), reason
        queue.save(using=db.database, update_fields=["paused_at", "pause_reason"])
    return True


def resume(db: Dialect, backend_alias: str, name: str) -> bool:
    """Let claims take jobs of a queue again; False if it was not paused."""
    queues = Queue.objects.using(db.database)
    with transaction.atomic(using=db.database):
        paused = queues.paused().filter(backend_alias=backend_alias, name=name)
        queue = paused.select_for_update().first()
        if queue is None or queue.paused_at is None:
            return False
        pause = [queue.paused_at.timestamp(), db.now().timestamp()]
        queue.past_pauses = [*queue.past_pauses, pause][-PAUSES_KEPT:]
        queue.paused_at, queue.pause_reason = None, ""
        queue.save(using=db.database)
    return True


def _locked(db: Dialect, backend_alias: str, name: str) -> Queue:
    queues = Queue.objects.using(db.database)
    queues.get_or_create(backend_alias=backend_alias, name=name)
    return queues.select_for_update().get(backend_alias=backend_alias, name=name)
