"""Queues that are or were paused, in Django's admin."""

from __future__ import annotations

from django.contrib import admin

from windlass.admin.reading import ReadOnlyAdmin
from windlass.models import Queue


@admin.register(Queue)
class QueueAdmin(ReadOnlyAdmin):
    """Queues that someone has paused at least once; others have no row."""

    ordering = ["backend_alias", "name"]
    list_display = ["name", "backend_alias", "paused_at", "pause_reason"]
    fields = ["name", "backend_alias", "paused_at", "pause_reason"]
