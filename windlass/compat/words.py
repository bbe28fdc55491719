"""
The words that earlier packages have for the state of a job.

A word is read from the row, and can be filtered and sorted by as if it were a column.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Case, Exists, OuterRef, Q, Value, When
from django.utils.timezone import make_naive

from windlass.models import Node, State

TASK_WORKER = {
    State.SCHEDULED: "PENDING",
    State.BLOCKED: "PENDING",
    State.READY: "PENDING",
    State.RUNNING: "PROGRESS",
    State.SUCCEEDED: "COMPLETED",
    State.FAILED: "FAILED",
    State.CANCELLED: "FAILED",
    State.DISCARDED: "FAILED",
}
# What waits and what runs has two words each: see below.
DB_QUEUE = {
    State.SCHEDULED: "NEW",
    State.BLOCKED: "NEW",
    State.READY: "NEW",
    State.RUNNING: "PROCESSING",
    State.SUCCEEDED: "COMPLETE",
    State.FAILED: "FAILED",
    State.CANCELLED: "FAILED",
    State.DISCARDED: "FAILED",
}


class Shown(property):
    """Read from the job, whatever a query has selected under the same name."""

    def __set__(self, instance: Any, value: Any) -> None:
        """Keep nothing: what was selected says the same."""


class WordField(models.CharField):
    """A word for a state; success is found by either of its spellings."""

    def __init__(self, *args: Any, success: str, **kwargs: Any) -> None:
        self.success = success
        super().__init__(*args, **kwargs)

    def get_prep_value(self, value: Any) -> Any:
        """Read either spelling of success."""
        value = super().get_prep_value(value)
        return self.success if value in ("COMPLETE", "COMPLETED") else value


def task_worker_word() -> Case:
    """django-task-worker's word for a row's state, as an expression."""
    return _case(TASK_WORKER, "state")


def db_queue_word(column: str) -> Case:
    """django-db-queue's word, as an expression; ``column`` has the state."""
    own_node = stopping().filter(pk=OuterRef("node"))
    waits = Q(**{f"{column}__in": [s for s, word in DB_QUEUE.items() if word == "NEW"]})
    runs = Q(**{column: State.RUNNING})
    return _case(
        DB_QUEUE,
        column,
        When(runs & Exists(own_node), then=Value("STOPPING")),
        When(waits & Q(policy__step__gt=0), then=Value("READY")),
    )


def _case(words: Mapping[State, str], column: str, *first: When) -> Case:
    states: dict[str, list[State]] = {}
    for state, word in words.items():
        states.setdefault(word, []).append(state)
    rest = [
        When(**{f"{column}__in": own}, then=Value(word)) for word, own in states.items()
    ]
    field = WordField(success=words[State.SUCCEEDED])
    return Case(*first, *rest, output_field=field)


def stopping() -> models.QuerySet[Node]:
    """Nodes that have said, with their last heartbeat, that they are about to end."""
    said = Node.objects.filter(details__has_key="stopping")
    return said.exclude(details__stopping=None)


def moved_at(job: Any) -> datetime | None:
    """When a job ended, began, or came back from an attempt; None if it never ran."""
    last = (job.history or [{}])[-1].get("ended_at")
    moment: datetime | None = job.finished_at or job.started_at
    if moment is not None or last is None:
        return moment
    moment = datetime.fromisoformat(last)
    return moment if settings.USE_TZ or moment.tzinfo is None else make_naive(moment)
