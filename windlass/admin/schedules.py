"""Schedules in Django's admin."""

from __future__ import annotations

from django.contrib import admin
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from windlass.admin.reading import ReadOnlyAdmin, as_json
from windlass.models import Schedule


@admin.register(Schedule)
class ScheduleAdmin(ReadOnlyAdmin):
    """Schedules: what is due next, and what keeps one from firing."""

    ordering = ["next_due_at", "key"]
    list_display = [
        *("key", "task_path", "schedule", "next_due_at", "last_due_at", "enabled"),
        *("is_static", "backend_alias", "last_error"),
    ]
    list_filter = ["enabled", "is_static", "backend_alias"]
    search_fields = ["key", "task_path"]
    fields = [
        *("key", "description", "backend_alias", "task_path", "shown_args"),
        *("shown_kwargs", "schedule", "timezone", "next_due_at", "last_due_at"),
        *("last_fired_at", "last_error", "enabled", "is_static", "queue_name"),
        *("priority", "overlap", "missed"),
    ]

    @admin.display(description=_("arguments"))
    def shown_args(self, schedule: Schedule) -> SafeString:
        return as_json(schedule.args)

    @admin.display(description=_("keyword arguments"))
    def shown_kwargs(self, schedule: Schedule) -> SafeString:
        return as_json(schedule.kwargs)
