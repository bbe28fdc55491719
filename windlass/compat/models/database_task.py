"""
``DatabaseTask`` of django-task-worker: ``Job`` with that model's columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Self

from django.db import models
from django.db.models import F, Value
from django.db.models.functions import Greatest

from windlass import api
from windlass.compat.words import TASK_WORKER, Shown, moved_at, task_worker_word
from windlass.models import Job, State
from windlass.models.view import JobQuerySet
from windlass.tasks_api import TaskError


def last_line(error: TaskError) -> str:
    """The line of a traceback that has the error's own class, with its message."""
    own = error.exception_class_path.removeprefix("builtins.")
    lines = error.traceback.strip().splitlines()
    return next((line for line in reversed(lines) if line.startswith(own)), lines[-1])


class DatabaseTaskQuerySet(JobQuerySet):
    """Jobs, and how one is made."""

    def create(  # type: ignore[override]
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        timeout: float | None = 300,
        **more: Any,
    ) -> DatabaseTask:
        """Enqueue a call by its dotted name: see ``windlass.api.create_task``."""
        return DatabaseTask.of(api.create_task(name, args, kwargs, timeout, **more))


class DatabaseTaskManager(models.Manager.from_queryset(DatabaseTaskQuerySet)):  # type: ignore[misc]
    """Jobs that can be filtered and sorted by what task-worker's columns were."""

    def get_queryset(self) -> Any:
        """Every job, with those names."""
        return (
            super()
            .get_queryset()
            .annotate(
                status=task_worker_word(),
                retry_count=Greatest(F("attempts") - 1, Value(0)),
                created_at=F("enqueued_at"),
            )
        )


class DatabaseTask(Job):
    """
    A job as django-task-worker shows it, with one difference.

    A task that waits for its next attempt is ``PENDING``; ``FAILED`` is an end.
    """

    objects = DatabaseTaskManager()  # type: ignore[misc]

    class Meta:
        app_label = "windlass_compat"
        proxy = True
        verbose_name = "task"

    def __str__(self) -> str:
        return f"Task {self.pk}: {self.name} ({self.status})"

    @classmethod
    def of(cls, job: Job) -> Self:
        """The same job by these names."""
        names = [field.attname for field in cls._meta.concrete_fields]
        return cls.from_db(job._state.db, names, [getattr(job, n) for n in names])

    @Shown
    def status(self) -> str:
        """``PENDING``, ``PROGRESS``, ``COMPLETED`` or ``FAILED``."""
        return TASK_WORKER[State(self.state)]

    @Shown
    def retry_count(self) -> int:
        """How many attempts came after the first."""
        return max(self.attempts - 1, 0)

    @Shown
    def created_at(self) -> datetime:
        """When it was enqueued."""
        return self.enqueued_at

    @property
    def updated_at(self) -> datetime:
        """When it ended, began, or came back from an attempt; else its creation."""
        return moved_at(self) or self.enqueued_at

    @property
    def result(self) -> str | None:
        """What its function returned, as text; None unless it has succeeded."""
        return str(self.return_value) if self.state == State.SUCCEEDED else None

    @property
    def error(self) -> str | None:
        """The class and message of its last error; None while it runs or succeeded."""
        if self.state in (State.RUNNING, State.SUCCEEDED):
            return None
        if errors := self.errors:
            return last_line(errors[-1])
        return self.get_reason_display() if self.state == State.DISCARDED else None

    @property
    def duration(self) -> float | None:  # type: ignore[override]
        """Seconds that its last attempt ran, or None while it has not ended."""
        took = super().duration
        return None if took is None else took.total_seconds()
