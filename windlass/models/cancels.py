"""
Requests to cancel jobs that run.

A running job belongs to its worker, so whoever wants it to stop leaves a row here.
The worker that runs the job finds it, ends the code, and records the end; the
janitor sees to what no worker could. The table is empty almost always.
"""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class CancelRequest(models.Model):
    """Someone wants this job to stop."""

    job = models.UUIDField(primary_key=True, editable=False)
    backend_alias = models.CharField(_("backend"), max_length=64)
    reason = models.TextField(_("reason"), blank=True)
    requested_at = models.DateTimeField(_("requested at"))

    class Meta:
        app_label = "windlass"
        db_table = "windlass_cancel"
        verbose_name = _("cancel request")
        verbose_name_plural = _("cancel requests")

    def __str__(self) -> str:
        return f"cancel {self.job}: {self.reason}"
