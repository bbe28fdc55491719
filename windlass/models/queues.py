"""
A queue has a row only once someone has paused it; it is otherwise a word on jobs.

A pause holds for claims that begin after it was committed. What was paused when is
kept, because time that a job waited in a paused queue is nobody's latency.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.utils.translation import gettext_lazy as _


class QueueSet(models.QuerySet["Queue"]):
    """Named scopes of queues."""

    def paused(self) -> QueueSet:
        return self.filter(paused_at__isnull=False)


class Queue(models.Model):
    """What is known of a queue beyond its jobs: whether it is paused, and was."""

    backend_alias = models.CharField(_("backend"), max_length=64)
    name = models.CharField(_("name"), max_length=255)
    paused_at = models.DateTimeField(_("paused at"), null=True)
    pause_reason = models.TextField(_("reason of the pause"), db_default="", blank=True)
    # [start, end] in epoch seconds, oldest first.
    past_pauses = models.JSONField(_("past pauses"), default=list)

    objects = QueueSet.as_manager()

    class Meta:
        app_label = "windlass"
        db_table = "windlass_queue"
        verbose_name = _("queue")
        verbose_name_plural = _("queues")
        constraints = [
            models.UniqueConstraint(
                fields=["backend_alias", "name"], name="windlass_queue_once"
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_paused(self) -> bool:
        """Whether claims leave this queue alone."""
        return self.paused_at is not None

    def paused_within(self, start: datetime, end: datetime) -> timedelta:
        """How much of a span of time this queue was paused."""
        first, last = start.timestamp(), end.timestamp()
        pauses = [*self.past_pauses]
        if self.paused_at is not None:
            pauses.append([self.paused_at.timestamp(), last])
        seconds = sum(max(0.0, min(e, last) - max(s, first)) for s, e in pauses)
        return timedelta(seconds=seconds)
