"""
Requests to cancel jobs that run: rows that their workers look for.
"""

from __future__ import annotations

from collections.abc import Sequence

from windlass.db.base import Dialect
from windlass.models.cancels import CancelRequest
from windlass.models.jobs import LiveJob, LiveJobQuerySet


def _live(db: Dialect) -> LiveJobQuerySet:
    return LiveJob.objects.using(db.database)


def request_cancels(
    db: Dialect, backend_alias: str, ids: Sequence[str], *, reason: str
) -> set[str]:
    """Note that these jobs are to be cancelled, if they run; give back which do."""
    running = _live(db).running().filter(id__in=ids, backend_alias=backend_alias)
    found = list(running.values_list("id", flat=True))
    now = db.now()
    CancelRequest.objects.using(db.database).bulk_create(
        [
            CancelRequest(
                job=id, backend_alias=backend_alias, reason=reason, requested_at=now
            )
            for id in found
        ],
        ignore_conflicts=True,
    )
    return {str(id) for id in found}


def cancel_requests(db: Dialect, backend_alias: str) -> dict[str, str]:
    """The reasons of all cancels that are asked for, by job."""
    rows = CancelRequest.objects.using(db.database).filter(backend_alias=backend_alias)
    return {str(id): reason for id, reason in rows.values_list("job", "reason")}


def forget_cancels(db: Dialect, ids: Sequence[str]) -> None:
    """Delete requests to cancel."""
    rows = CancelRequest.objects.using(db.database).filter(job__in=ids)
    rows._raw_delete(db.database)


def forget_idle_cancels(db: Dialect, ids: Sequence[str]) -> None:
    """Delete requests to cancel jobs that have ended."""
    live = _live(db).filter(id__in=ids).values_list("id", flat=True)
    forget_cancels(db, [*{*ids} - {str(id) for id in live}])
