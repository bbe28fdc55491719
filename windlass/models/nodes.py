"""
A node is one running operating-system process of the runtime.

Its identity is a random number, so a reused pid or host name is never mistaken
for it. Its lease is the heartbeat in this row: jobs have none of their own.
"""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from windlass.models.history import worker_id


class Node(models.Model):
    """One process of the runtime, alive while its heartbeat is fresh."""

    class Kind(models.TextChoices):
        """What a process of the runtime does."""

        WORKER = "worker", _("worker")
        DISPATCHER = "dispatcher", _("dispatcher")

    id = models.BigIntegerField(primary_key=True, editable=False)
    kind = models.CharField(_("kind"), max_length=16, choices=Kind.choices)
    backend_alias = models.CharField(_("backend"), max_length=64)
    name = models.CharField(_("name"), max_length=64)
    # Host name, boot and pid namespace: the scope within which a pid means something.
    host = models.CharField(_("host"), max_length=255)
    pid = models.BigIntegerField(_("process id"))
    process_started = models.BigIntegerField(_("process start"), db_default=0)
    supervisor_pid = models.BigIntegerField(_("supervisor process id"), null=True)
    started_at = models.DateTimeField(_("started at"))
    heartbeat_at = models.DateTimeField(_("heartbeat at"))
    version = models.CharField(_("version"), max_length=32)
    details = models.JSONField(_("details"), default=dict)

    class Meta:
        app_label = "windlass"
        db_table = "windlass_node"
        verbose_name = _("node")
        verbose_name_plural = _("nodes")

    def __str__(self) -> str:
        return f"{self.name} ({self.host}, pid {self.pid})"

    @property
    def worker_id(self) -> str:
        """The name by which results know this node."""
        return worker_id(self.id)
