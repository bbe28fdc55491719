"""
BaseProcessLog: one line of a process's log, in a table of the project's own.

Whatever a subclass's Meta says, the numbers of a process's lines are unique.
"""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models.signals import class_prepared
from django.dispatch import receiver
from django.utils.translation import gettext_lazy as _

from windlass.processes.lines import LEVELS


class BaseProcessLog(models.Model):
    """
    A line of a process's log. Subclass it, and add the foreign key ``process``::

        class ReportLog(BaseProcessLog):
            process = models.ForeignKey(
                Report, on_delete=models.CASCADE, related_name="logs"
            )

    ``sequence`` counts from 1 without gaps, whoever writes. ``left_out`` is 0, or says
    for how many lines this one stands that are not stored any more.
    """

    left_out = 0

    sequence = models.PositiveBigIntegerField(_("number"))
    level = models.CharField(
        _("level"), max_length=8, choices=[(n, _(n)) for n in LEVELS], default="info"
    )
    message = models.TextField(_("message"), blank=True)
    created = models.DateTimeField(_("created"))
    stream = models.CharField(_("stream"), max_length=8, default="log")
    attempt = models.PositiveIntegerField(_("attempt"), default=0)

    class Meta:
        abstract = True
        ordering = ["sequence"]

    def __str__(self) -> str:
        return f"{self.sequence} {self.level}: {self.message}"


@receiver(class_prepared)
def _number_lines_once(sender: Any, **kwargs: Any) -> None:
    """Add the constraint that makes numbers unique, whatever the subclass's Meta is."""
    if not issubclass(sender, BaseProcessLog) or sender._meta.proxy:
        return
    if not any(field.name == "process" for field in sender._meta.local_fields):
        return
    found = sender._meta.constraints
    if any({"process", "sequence"} == set(getattr(c, "fields", ())) for c in found):
        return
    name = f"{sender._meta.app_label}_{sender._meta.model_name}"[:20] + "_number"
    numbers = models.UniqueConstraint(fields=["process", "sequence"], name=name)
    sender._meta.constraints = [*found, numbers]
    # What makemigrations reads.
    sender._meta.original_attrs["constraints"] = sender._meta.constraints
