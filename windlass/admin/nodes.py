"""The processes of the runtime in Django's admin."""

from __future__ import annotations

from django.contrib import admin
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from windlass.admin.reading import ReadOnlyAdmin, as_json
from windlass.models import Node


@admin.register(Node)
class NodeAdmin(ReadOnlyAdmin):
    """Nodes: those that live now, and the dead ones nobody has taken over yet."""

    ordering = ["kind", "name", "id"]
    list_display = [
        *("name", "kind", "backend_alias", "host", "pid", "worker_id"),
        *("started_at", "heartbeat_at", "version"),
    ]
    list_filter = ["kind"]
    fields = [
        *("worker_id", "name", "kind", "backend_alias", "host", "pid"),
        *("supervisor_pid", "started_at", "heartbeat_at", "version", "shown_details"),
    ]

    @admin.display(description=_("details"))
    def shown_details(self, node: Node) -> SafeString:
        return as_json(node.details)
