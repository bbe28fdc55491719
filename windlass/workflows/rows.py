"""Rows of runs: locked in one order, and written some at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar
from uuid import UUID

from django.db.models import F

from windlass.db import Dialect
from windlass.workflows.models import WorkflowRun

# What holds a job that waits for other jobs.
HOLD = "workflow"
BATCH = 500
Id = UUID | str
T = TypeVar("T")


def lock_runs(db: Dialect, ids: Iterable[Id]) -> dict[UUID, WorkflowRun]:
    """Lock the rows of runs until the transaction ends, always in the same order."""
    runs = WorkflowRun.objects.using(db.database)
    wanted = list(ids)
    if db.single_writer:
        # Only a write makes this transaction the one that writes.
        runs.filter(pk__in=wanted).update(name=F("name"))
    rows = runs.filter(pk__in=wanted).order_by("pk").select_for_update()
    return {run.pk: run for run in rows}


def batches(items: Iterable[T]) -> Iterator[list[T]]:
    """The same items, some at a time."""
    rest = iter(items)
    while some := list(islice(rest, BATCH)):
        yield some
