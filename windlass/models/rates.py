"""
What has started lately under a rate limit: one row for each key that is in use.

The row is the lock, too: whoever starts jobs of a key holds it while it decides.
"""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class RateWindow(models.Model):
    """The latest starts of the jobs of one key."""

    backend_alias = models.CharField(_("backend"), max_length=64)
    key = models.CharField(_("key"), max_length=255)
    # Epoch seconds by the database's clock, oldest first; no more than the limit.
    starts = models.JSONField(_("starts"), default=list)
    updated_at = models.DateTimeField(_("updated at"))

    class Meta:
        app_label = "windlass"
        db_table = "windlass_rate"
        verbose_name = _("rate window")
        verbose_name_plural = _("rate windows")
        constraints = [
            models.UniqueConstraint(
                fields=["backend_alias", "key"], name="windlass_rate_once"
            )
        ]
        indexes = [models.Index(fields=["updated_at"], name="windlass_rate_updated")]

    def __str__(self) -> str:
        return self.key
