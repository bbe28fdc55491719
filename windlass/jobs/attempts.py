"""What a job's history keeps of one attempt that ended badly."""

from __future__ import annotations

from datetime import UTC, datetime
from traceback import format_exception
from typing import Any

from django.conf import settings
from django.utils import timezone

from windlass.jobs.lifecycle import Attempt
from windlass.models.history import worker_id


def well_ended(attempt: Attempt) -> dict[str, Any]:
    """The entry of an attempt that ended as it should."""
    return {
        "attempt": attempt.job.attempts,
        "worker": worker_id(attempt.node),
        "started_at": _iso(attempt.started),
        "ended_at": _iso(attempt.ended),
        "cause": "",
    }


def describe(attempt: Attempt, cause: str, error: BaseException) -> dict[str, Any]:
    """One entry of a job's history, as JSON can hold it on every database."""
    kind = type(error)
    return well_ended(attempt) | {
        "cause": str(cause),
        "error": _storable(f"{kind.__module__}.{kind.__qualname__}"),
        "traceback": _storable(_traceback(error)),
    }


def _traceback(error: BaseException) -> str:
    try:
        return "".join(format_exception(error))
    except BaseException as broken:  # noqa: BLE001 - a __str__ may raise anything
        # A user's __str__ or __repr__ may raise; the job must still get its end.
        return f"{type(error).__qualname__} (its text cannot be shown: {type(broken)})"


def _storable(text: str) -> str:
    # PostgreSQL's jsonb holds neither NUL nor half of a surrogate pair.
    return (
        text.replace("\0", "\N{SYMBOL FOR NULL}")
        .encode("utf-8", "backslashreplace")
        .decode()
    )


def _iso(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return (moment if settings.USE_TZ else timezone.make_naive(moment)).isoformat()
