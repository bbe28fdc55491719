"""
``Job``: what users, results and the admin read, a view over both tables of jobs.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NoReturn

from django.db import models
from django.db.models import Count, Q
from django.utils import timezone
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _

from windlass import conf
from windlass.exceptions import EnqueueError, JobCancelled
from windlass.models.history import errors_of, workers_of
from windlass.models.jobs import LiveJob, Reason, State
from windlass.tasks_api import DEFAULT_TASK_BACKEND_ALIAS, TaskError

SAY_VERBS = "Enqueue, retry, cancel or discard it with windlass.api."
# By its path: what is enqueued is for the layers above to say.
ENQUEUE_STEPS = "windlass.multi_step.enqueue"


class JobQuerySet(models.QuerySet["Job"]):
    """Named scopes over every job, live or ended."""

    def create(self, **said: Any) -> Job:  # type: ignore[override]
        """
        Enqueue a multi-step job of the setting ``JOBS``, in the caller's transaction.

        Takes ``name``, and if wanted ``workspace`` (a dict of what JSON can hold),
        ``queue_name``, ``priority``, ``run_after`` (an aware time or a timedelta) and
        ``backend_alias``, whose database it goes to. Gives back the stored job; raises
        EnqueueError with nothing stored.
        """
        alias = said.get("backend_alias", DEFAULT_TASK_BACKEND_ALIAS)
        asked = getattr(self, "_db", None)
        if asked is not None and asked != conf.options(alias).database_alias:
            raise EnqueueError(
                f"A job of the backend {alias!r} is not stored on the database "
                f"{asked!r}: leave out using(), or name the backend that is. "
                "Nothing was stored."
            )
        enqueue: Callable[..., Job] = import_string(ENQUEUE_STEPS)
        return enqueue(**said)

    def bulk_create(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: each job is created for itself, with its creation hook."""
        raise TypeError(f"Jobs are a view and cannot be stored in bulk. {SAY_VERBS}")

    def in_state(self, *states: str) -> JobQuerySet:
        return self.filter(state__in=states)


class Job(models.Model):
    """
    Every job, live or ended: what users, results and the admin read.

    A database view over both tables. Reading is all it is for: a job is moved by
    the functions of ``windlass.api`` and by the runtime, never by saving it.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    name = models.CharField(_("name"), max_length=500)
    task_path = models.CharField(_("task"), max_length=500)
    state = models.CharField(_("state"), max_length=16, choices=State.choices)
    reason = models.CharField(_("reason"), max_length=16, choices=Reason.choices)
    backend_alias = models.CharField(_("backend"), max_length=64)
    queue_name = models.CharField(_("queue"), max_length=255)
    priority = models.SmallIntegerField(_("priority"))
    args = models.JSONField(_("arguments"))
    kwargs = models.JSONField(_("keyword arguments"))
    run_after = models.DateTimeField(_("run after"))
    enqueued_at = models.DateTimeField(_("enqueued at"))
    started_at = models.DateTimeField(_("started at"), null=True)
    finished_at = models.DateTimeField(_("finished at"), null=True)
    attempts = models.SmallIntegerField(_("attempts"))
    max_attempts = models.SmallIntegerField(_("max attempts"))
    crashes = models.SmallIntegerField(_("crashes"))
    node = models.BigIntegerField(_("node"), null=True)
    return_value = models.JSONField(_("return value"), null=True)
    metadata = models.JSONField(_("metadata"), null=True)
    progress = models.JSONField(_("progress"), null=True)
    policy = models.JSONField(_("policy"), null=True)
    history = models.JSONField(_("past attempts"), null=True)
    unique_key = models.CharField(_("unique key"), max_length=255, null=True)
    plan = models.JSONField(_("plan"), null=True)
    workspace = models.JSONField(_("workspace"), null=True)

    objects = JobQuerySet.as_manager()

    class Meta:
        app_label = "windlass"
        managed = False
        db_table = "windlass_job"
        verbose_name = _("job")
        verbose_name_plural = _("jobs")

    def __str__(self) -> str:
        return f"{self.name} {self.id} ({self.state})"

    def save(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: a job is enqueued and moved by verbs, not saved."""
        raise TypeError(f"Job {self.id} is a view and cannot be saved. {SAY_VERBS}")

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: see ``save``."""
        raise TypeError(f"Job {self.id} is a view and cannot be deleted. {SAY_VERBS}")

    @property
    def timeout(self) -> float | None:
        """Seconds that one attempt may run, or None."""
        return (self.policy or {}).get("timeout")

    @property
    def concurrency_key(self) -> str | None:
        """The first key of which this job needs a slot, or None."""
        return next(filter(None, (self.policy or {}).get("limits", ())), None)

    @property
    def steps(self) -> list[str]:
        """The dotted paths of a multi-step job's tasks; of another job its own."""
        found: list[str] = (self.plan or {}).get("tasks") or [self.task_path]
        return found

    @property
    def step(self) -> int:
        """The place in ``steps`` where the job stands, or where it ended."""
        return int((self.policy or {}).get("step", 0))

    @classmethod
    def get_queue_depths(
        cls, exclude_future_jobs: bool = False, *, backend_alias: str | None = None
    ) -> dict[str, int]:
        """
        How many jobs wait in each queue that has any, of one backend or of all.

        Without ``exclude_future_jobs`` those that wait for a time count as well. Reads
        all jobs that have not ended; not for hot paths.
        """
        first = next(iter(conf.aliases()), DEFAULT_TASK_BACKEND_ALIAS)
        own = conf.options(backend_alias or first)
        rows = LiveJob.objects.using(own.database_alias).waiting()
        if exclude_future_jobs:
            rows = rows.filter(~Q(hold="") | Q(available_at__lte=timezone.now()))
        if backend_alias is not None:
            rows = rows.filter(backend_alias=backend_alias)
        counted = rows.order_by().values_list("queue_name").annotate(n=Count("id"))
        return dict(counted)

    @property
    def duration(self) -> timedelta | None:
        """How long the last attempt ran, or None while it has not ended."""
        if self.started_at is None or self.finished_at is None:
            return None
        return self.finished_at - self.started_at

    @property
    def worker_ids(self) -> list[str]:
        """One worker id for each attempt, first to last."""
        return workers_of(self.history, self.attempts, self.node)

    @property
    def errors(self) -> list[TaskError]:
        """The error of each attempt that ended with one, first to last."""
        found = errors_of(self.history)
        if self.state == State.CANCELLED and not found:
            why = (self.policy or {}).get("why") or "it had not started"
            path = f"{JobCancelled.__module__}.{JobCancelled.__qualname__}"
            said = f"{path}: the job was cancelled: {why}"
            found.append(TaskError(exception_class_path=path, traceback=said))
        return found


def parse_id(value: object) -> uuid.UUID | None:
    """Read a job id in any spelling, or None if it cannot be one."""
    try:
        return uuid.UUID(str(value))
    except ValueError:
        return None
