"""
``Job`` of django-db-queue: every job, with that model's columns and words.

A model of its own over the same view, because its ``state`` says other words than the
column of that name.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NoReturn

from django.db import models
from django.db.models import Q

from windlass.compat.words import DB_QUEUE, Shown, db_queue_word, moved_at, stopping
from windlass.models import Job, State
from windlass.models.view import SAY_VERBS


class QueueJobQuerySet(models.QuerySet["QueueJob"]):
    """Jobs, and how one is made."""

    def create(self, **said: Any) -> QueueJob:  # type: ignore[override]
        """Enqueue a job of the setting ``JOBS``: see ``Job.objects.create``."""
        create: Any = Job.objects.create
        return QueueJob.of(create(**said))

    def bulk_create(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: each job is created for itself, with its creation hook."""
        raise TypeError(f"Jobs are a view and cannot be stored in bulk. {SAY_VERBS}")


class QueueJobManager(models.Manager.from_queryset(QueueJobQuerySet)):  # type: ignore[misc]
    """Jobs that can be filtered and sorted by db-queue's word for their state."""

    def get_queryset(self) -> Any:
        """Every job, with that word."""
        # As a dict, because type checkers take it for the model's own attribute.
        word: dict[str, Any] = {"state": db_queue_word("windlass_state")}
        return super().get_queryset().annotate(**word)


class QueueJob(models.Model):
    """A job as django-db-queue shows it, for reading; ``create()`` enqueues one."""

    class STATES(models.TextChoices):
        """Its words. ``COMPLETED`` is found by them too."""

        NEW = "NEW"
        READY = "READY"
        PROCESSING = "PROCESSING"
        STOPPING = "STOPPING"
        FAILED = "FAILED"
        COMPLETE = "COMPLETE"

    id = models.UUIDField(primary_key=True, editable=False)
    name = models.CharField(max_length=500)
    windlass_state = models.CharField(max_length=16, db_column="state")
    next_task = models.CharField(max_length=500, db_column="task_path")
    workspace = models.JSONField(null=True)
    queue_name = models.CharField(max_length=255)
    priority = models.SmallIntegerField()
    run_after = models.DateTimeField()
    created = models.DateTimeField(db_column="enqueued_at")
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    policy = models.JSONField(null=True)
    history = models.JSONField(null=True)
    node = models.BigIntegerField(null=True)

    objects = QueueJobManager()

    class Meta:
        app_label = "windlass_compat"
        managed = False
        db_table = "windlass_job"
        verbose_name = "job"

    def __str__(self) -> str:
        return f"{self.name} {self.id} ({self.state})"

    def save(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse, as ``Job.save`` does; a step's workspace is stored with its end."""
        raise TypeError(f"Job {self.id} is a view and cannot be saved. {SAY_VERBS}")

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: see ``save``."""
        raise TypeError(f"Job {self.id} is a view and cannot be deleted. {SAY_VERBS}")

    @classmethod
    def of(cls, job: Job) -> QueueJob:
        """The same job by these names."""
        fields: Any = cls._meta.concrete_fields
        values = [getattr(job, field.column) for field in fields]
        return cls.from_db(job._state.db, [f.attname for f in fields], values)

    @staticmethod
    def get_queue_depths(*, exclude_future_jobs: bool = False) -> dict[str, int]:
        """How many jobs wait in each queue: see ``Job.get_queue_depths``."""
        return Job.get_queue_depths(exclude_future_jobs)

    @Shown
    def state(self) -> str:
        """One of ``STATES``, for what has not ended as it was when this was read."""
        word = DB_QUEUE[State(self.windlass_state)]
        if word == "NEW" and (self.policy or {}).get("step"):
            return "READY"
        if word == "PROCESSING" and self._is_stopping():
            return "STOPPING"
        return word

    @property
    def modified(self) -> datetime:
        """When it ended, began, or came back from an attempt; else its creation."""
        return moved_at(self) or self.created

    def _is_stopping(self) -> bool:
        own_node = Q(pk=self.node)
        return stopping().using(self._state.db).filter(own_node).exists()
