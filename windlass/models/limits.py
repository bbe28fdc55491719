"""
Who runs under a concurrency limit, and who waits for it.

A slot is a row that belongs to one claim of one job. Whether it is really held follows
from the job's own row: once no node holds the job by that very claim, the slot is free,
whatever became of the process. So nothing is counted, and nothing can drift.
"""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class Slot(models.Model):
    """One of the places that a key has, held by a claim."""

    # Two who want the same place meet here. No other index: most jobs are short.
    pk = models.CompositePrimaryKey("key", "number")
    key = models.CharField(_("key"), max_length=400)
    # From 0 on.
    number = models.IntegerField(_("number"))
    job = models.UUIDField(_("job"))
    claim = models.IntegerField(_("claim"))

    class Meta:
        app_label = "windlass"
        db_table = "windlass_slot"
        verbose_name = _("slot")
        verbose_name_plural = _("slots")

    def __str__(self) -> str:
        return f"{self.key} {self.number}"


class Waiter(models.Model):
    """A blocked job, and the one key for which it waits."""

    job = models.UUIDField(_("job"), primary_key=True)
    key = models.CharField(_("key"), max_length=400)
    nice = models.SmallIntegerField(_("negated priority"))
    enqueued_at = models.DateTimeField(_("enqueued at"))

    class Meta:
        app_label = "windlass"
        db_table = "windlass_waiter"
        verbose_name = _("waiter for a limit")
        verbose_name_plural = _("concurrency limits")
        indexes = [
            models.Index(
                fields=["key", "nice", "enqueued_at", "job"],
                name="windlass_waiter_next",
            )
        ]

    def __str__(self) -> str:
        return f"{self.job} for {self.key}"
