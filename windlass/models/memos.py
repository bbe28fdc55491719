"""
What a job remembers of its durable steps, and the events that were sent to it.

A durable step is a call inside one task; a step of a multi-step job is something else.
Rows of both tables are written once and never changed: whether an event was taken
follows from what the job remembers. They go when their job goes.
"""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class Memo(models.Model):
    """One thing that a job will not do again: a step's result, a sleep, a wait."""

    class Kind(models.TextChoices):
        """What is remembered."""

        STEP = "step", _("the result of a step")
        SLEEP = "sleep", _("when a sleep ends")
        WAIT = "wait", _("that it waits for an event, and until when")
        EVENT = "event", _("the event it waited for, or that none came")

    pk = models.CompositePrimaryKey("job", "step", "kind", "name", "ordinal")
    job = models.UUIDField(_("job"))
    # Which step of a multi-step job it belongs to, from 0 on.
    step = models.SmallIntegerField(_("step"), default=0)
    kind = models.CharField(_("kind"), max_length=8, choices=Kind.choices)
    name = models.CharField(_("name"), max_length=255)
    # The same name is used again and again in a loop: from 0 on.
    ordinal = models.IntegerField(_("ordinal"))
    # Steps are reached again in the order of their places; null where many run at once.
    place = models.IntegerField(_("place"), null=True)
    function_path = models.CharField(_("function"), max_length=500, blank=True)
    version = models.CharField(_("version"), max_length=64, blank=True)
    result = models.JSONField(_("result"), null=True)
    recorded_at = models.DateTimeField(_("recorded at"))

    class Meta:
        app_label = "windlass"
        db_table = "windlass_memo"
        verbose_name = _("memo")
        verbose_name_plural = _("memos")

    def __str__(self) -> str:
        return f"{self.kind} {self.name} of {self.job}"


class Event(models.Model):
    """Something that was said to a job, for the ``wait_for`` of its name."""

    # In the order of their ids they are taken: first in, first out.
    id = models.BigAutoField(primary_key=True)
    job = models.UUIDField(_("job"))
    name = models.CharField(_("name"), max_length=255)
    payload = models.JSONField(_("payload"), null=True)
    event_id = models.CharField(_("event id"), max_length=255, null=True)
    sent_at = models.DateTimeField(_("sent at"))

    class Meta:
        app_label = "windlass"
        db_table = "windlass_event"
        verbose_name = _("event")
        verbose_name_plural = _("events")
        # Events without an id of their own are as many as were sent.
        constraints = [
            models.UniqueConstraint(
                fields=["job", "event_id"], name="windlass_event_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} for {self.job}"
