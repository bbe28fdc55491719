"""
A schedule says when to enqueue which task again and again; a mark, that it has done so.

A due time is marked in the transaction that enqueues its job, and marks are unique, so
no two nodes fire the same one. A mark names its schedule by key, not by row: a schedule
that was removed and made again does not fire a second time what it has fired before.
"""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class Schedule(models.Model):
    """When to enqueue which task. ``next_due_at`` is empty while it is paused."""

    class Overlap(models.TextChoices):
        """What a due time does while the job before it has not ended."""

        ALLOW = "allow", _("enqueue another one")
        SKIP = "skip", _("enqueue none")
        CANCEL_PREVIOUS = "cancel_previous", _("cancel the job before")

    class Missed(models.TextChoices):
        """What becomes of due times at which no scheduler ran."""

        LATEST = "latest", _("the latest fires")
        ALL = "all", _("each fires")
        SKIP = "skip", _("none fires")

    id = models.BigAutoField(primary_key=True)
    backend_alias = models.CharField(_("backend"), max_length=64)
    key = models.CharField(_("key"), max_length=255)
    task_path = models.CharField(_("task"), max_length=500)
    args = models.JSONField(_("arguments"), default=list)
    kwargs = models.JSONField(_("keyword arguments"), default=dict)
    schedule = models.CharField(_("schedule"), max_length=255)
    timezone = models.CharField(_("time zone"), max_length=64, blank=True)
    queue_name = models.CharField(_("queue"), max_length=255, blank=True)
    priority = models.SmallIntegerField(_("priority"), null=True)
    description = models.TextField(_("description"), blank=True)
    overlap = models.CharField(_("overlap"), max_length=16, choices=Overlap.choices)
    missed = models.CharField(_("missed"), max_length=16, choices=Missed.choices)
    is_static = models.BooleanField(_("from the settings"))
    enabled = models.BooleanField(_("enabled"), default=True)
    next_due_at = models.DateTimeField(_("next run"), null=True)
    last_due_at = models.DateTimeField(_("last due"), null=True)
    last_fired_at = models.DateTimeField(_("last fired"), null=True)
    last_error = models.TextField(_("last error"), blank=True)

    class Meta:
        app_label = "windlass"
        db_table = "windlass_schedule"
        verbose_name = _("schedule")
        verbose_name_plural = _("schedules")
        indexes = [
            models.Index(
                fields=["backend_alias", "next_due_at"], name="windlass_schedule_due"
            )
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["backend_alias", "key"], name="windlass_schedule_key"
            )
        ]

    def __str__(self) -> str:
        return f"{self.key}: {self.task_path}, {self.schedule}"


class ScheduleMark(models.Model):
    """A due time that has been seen to; without a job if it was passed over."""

    id = models.BigAutoField(primary_key=True)
    backend_alias = models.CharField(_("backend"), max_length=64)
    key = models.CharField(_("key"), max_length=255)
    due_at = models.DateTimeField(_("due at"))
    fired_at = models.DateTimeField(_("fired at"))
    job = models.UUIDField(_("job"), null=True)

    class Meta:
        app_label = "windlass"
        db_table = "windlass_schedule_mark"
        verbose_name = _("mark of a schedule")
        verbose_name_plural = _("marks of schedules")
        indexes = [
            models.Index(fields=["backend_alias", "due_at"], name="windlass_mark_due")
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["backend_alias", "key", "due_at"], name="windlass_mark_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.key} at {self.due_at}"
