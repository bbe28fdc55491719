"""
When a job that is blocked was due.

It must not start by time alone, so it is put off to a moment that never comes: this
keeps it out of the claim's way with no index of its own. It is put off by the same
span always, so the moment that it had is still known, and is what users see.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Case, DateTimeField, F, When

from windlass.db.base import Dialect
from windlass.models.jobs import LiveJob

# A multiple of 400 years, after which the calendar repeats itself, so that the year
# alone changes: 2026 becomes 9626.
YEARS = 7600
SPAN = timedelta(days=YEARS // 400 * 146_097)
# Nobody who is blocked has an earlier year than this.
FIRST_YEAR = 8000
# From the year 2390 on a moment is far enough, and has no later one to be put off to.
LAST, LAST_YEAR = 13_253_932_800, 2390


def put_off(db: Dialect) -> Case:
    """The moment of a row, put off; an expression."""
    own = F("available_at")
    early = When(available_at__lt=db.moment(LAST), then=own + SPAN)
    return Case(early, default=own, output_field=DateTimeField())


def postponed(moment: datetime) -> datetime:
    """A moment, put off; as ``put_off`` says it of a row."""
    return moment + SPAN if moment.year < LAST_YEAR else moment


def due(row: LiveJob) -> datetime:
    """When a job that no node holds was or is due."""
    if row.hold and row.available_at.year >= FIRST_YEAR:
        return row.available_at - SPAN
    return row.available_at


def due_in(vendor: str) -> str:
    """``due`` in a database's own words, over the columns of a live row."""
    earlier = {
        "postgresql": f"available_at - interval '{SPAN.days * 24} hours'",
        "sqlite": f"(substr(available_at, 1, 4) - {YEARS}) || substr(available_at, 5)",
        "mysql": f"available_at - INTERVAL {SPAN.days} DAY",
    }
    return (
        f"CASE WHEN hold <> '' AND available_at >= '{FIRST_YEAR}-01-01'"
        f" THEN {earlier[vendor]} ELSE available_at END"
    )
