"""Jobs by their earlier names in Django's admin, to read and search."""

from __future__ import annotations

from django.contrib import admin

from windlass.admin.jobs import JobAdmin
from windlass.compat.models import DatabaseTask


@admin.register(DatabaseTask)
class DatabaseTaskAdmin(JobAdmin):
    """The page of jobs, with the columns of django-task-worker."""

    list_display = [
        *("short_id", "name", "status", "retry_count"),
        *("created_at", "started_at", "finished_at", "duration"),
    ]
