"""
A job is one row in one of two tables, and ``Job`` is the view over both (``view``).

``LiveJob`` is small and hot: whatever has not ended. ``EndedJob`` is append-only:
whatever has. A job moves from one to the other in one statement, so a reader of
the view sees it exactly once at every instant, under one id for its whole life.

The state of a live job is not stored. It follows from columns the engine needs
anyway: *running* if a node holds it, *blocked* if it has a hold, *scheduled* if
``available_at`` is in the future, else *ready*. So a scheduled job becomes ready
because time passes, and a retry is a row whose ``available_at`` moved.
"""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class State(models.TextChoices):
    """Where a job stands. The last four are ends."""

    SCHEDULED = "scheduled", _("scheduled")
    BLOCKED = "blocked", _("blocked")
    READY = "ready", _("ready")
    RUNNING = "running", _("running")
    SUCCEEDED = "succeeded", _("succeeded")
    FAILED = "failed", _("failed")
    CANCELLED = "cancelled", _("cancelled")
    DISCARDED = "discarded", _("discarded")


ENDS = (State.SUCCEEDED, State.FAILED, State.CANCELLED, State.DISCARDED)


class Reason(models.TextChoices):
    """Why a job ended as it did, beside its state."""

    NONE = "", _("none")
    ERROR = "error", _("its task raised an error")
    TIMEOUT = "timeout", _("an attempt ran longer than its timeout")
    CRASHED = "crashed", _("the process that ran it died")
    LOST = "lost", _("the node that ran it stopped its heartbeat")
    REFUSED = "refused", _("there is no such task to run")
    CANCELLED = "cancelled", _("someone cancelled it")
    DUPLICATE = "duplicate", _("another job holds its unique key")
    LIMIT = "limit", _("a limit refused it")
    EXPIRED = "expired", _("it came too late to start")
    INTERRUPTED = "interrupted", _("its worker had to stop before it ended")


class _Attempts(models.Model):
    """What live and ended rows share: the call, its budget and its past attempts."""

    id = models.UUIDField(primary_key=True, editable=False)
    enqueued_at = models.DateTimeField(_("enqueued at"))
    started_at = models.DateTimeField(_("started at"), null=True)
    node = models.BigIntegerField(_("node"), null=True)
    claim = models.IntegerField(_("claim"), db_default=0)
    attempts = models.SmallIntegerField(_("attempts"), db_default=0)
    max_attempts = models.SmallIntegerField(_("max attempts"), db_default=1)
    crashes = models.SmallIntegerField(_("crashes"), db_default=0)
    backend_alias = models.CharField(_("backend"), max_length=64)
    queue_name = models.CharField(_("queue"), max_length=255)
    task_path = models.CharField(_("task"), max_length=500)
    args = models.JSONField(_("arguments"))
    kwargs = models.JSONField(_("keyword arguments"))
    metadata = models.JSONField(_("metadata"), null=True)
    progress = models.JSONField(_("progress"), null=True)
    policy = models.JSONField(_("policy"), null=True)
    history = models.JSONField(_("past attempts"), null=True)
    unique_key = models.CharField(_("unique key"), max_length=255, null=True)
    # Of a multi-step job; a job of one task has none of them.
    name = models.CharField(_("name"), max_length=255, null=True)
    plan = models.JSONField(_("plan"), null=True)
    workspace = models.JSONField(_("workspace"), null=True)

    class Meta:
        abstract = True


class LiveJobQuerySet(models.QuerySet["LiveJob"]):
    """Named scopes of jobs that have not ended."""

    def running(self) -> LiveJobQuerySet:
        return self.filter(node__isnull=False)

    def waiting(self) -> LiveJobQuerySet:
        return self.filter(node__isnull=True)

    def blocked(self) -> LiveJobQuerySet:
        return self.waiting().exclude(hold="")

    def scheduled(self, *, now: datetime | None = None) -> LiveJobQuerySet:
        return self.waiting().filter(hold="", available_at__gt=now or timezone.now())

    def ready(self, *, now: datetime | None = None) -> LiveJobQuerySet:
        return self.waiting().filter(hold="", available_at__lte=now or timezone.now())


class LiveJob(_Attempts):
    """A job that has not ended. The table that workers claim from."""

    available_at = models.DateTimeField(_("may run from"))
    # The negated priority, so that the claim's index ascends.
    nice = models.SmallIntegerField(_("negated priority"), db_default=0)
    # Jobs of one queue and priority take turns by their share, if they have one.
    share = models.CharField(_("share"), max_length=255, db_default="", blank=True)
    hold = models.CharField(_("waits for"), max_length=32, db_default="", blank=True)

    objects = LiveJobQuerySet.as_manager()

    class Meta:
        app_label = "windlass"
        db_table = "windlass_live"
        verbose_name = _("live job")
        verbose_name_plural = _("live jobs")
        # No index may name a column that a claim changes: it would end PostgreSQL's
        # heap-only updates and cost a quarter of the throughput.
        indexes = [
            models.Index(
                fields=["backend_alias", "queue_name", "nice", "share", "available_at"],
                name="windlass_live_claim",
            )
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(node__isnull=True, started_at__isnull=True)
                | Q(node__isnull=False, started_at__isnull=False, hold=""),
                name="windlass_live_one_state",
            ),
            models.CheckConstraint(
                condition=Q(
                    nice__range=(-100, 100),
                    attempts__gte=0,
                    claim__gte=0,
                    max_attempts__gte=1,
                ),
                name="windlass_live_ranges",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.task_path} ({self.id})"


class EndedJobQuerySet(models.QuerySet["EndedJob"]):
    """Named scopes of jobs that have ended."""

    def in_state(self, state: str) -> EndedJobQuerySet:
        return self.filter(state=state)

    def ended_before(self, moment: datetime) -> EndedJobQuerySet:
        return self.filter(finished_at__lt=moment)


class EndedJob(_Attempts):
    """A job that has ended, with its result and the story of its attempts."""

    available_at = models.DateTimeField(_("run after"))
    nice = models.SmallIntegerField(_("negated priority"))
    state = models.CharField(_("state"), max_length=16, choices=State.choices)
    reason = models.CharField(
        _("reason"), max_length=16, choices=Reason.choices, db_default="", blank=True
    )
    finished_at = models.DateTimeField(_("finished at"))
    return_value = models.JSONField(_("return value"), null=True)

    objects = EndedJobQuerySet.as_manager()

    class Meta:
        app_label = "windlass"
        db_table = "windlass_ended"
        verbose_name = _("ended job")
        verbose_name_plural = _("ended jobs")
        indexes = [models.Index(fields=["finished_at"], name="windlass_ended_finished")]
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=[str(end) for end in ENDS]),
                name="windlass_ended_is_an_end",
            )
        ]

    def __str__(self) -> str:
        return f"{self.task_path} ({self.id})"
