"""Every job in Django's admin: a list that stays fast, and the whole story of each."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from windlass.admin.reading import ReadOnlyAdmin, as_json, preformatted
from windlass.models import Job, Memo
from windlass.models.view import JobQuerySet, parse_id

# A page shows what a job recorded first; the table has the rest.
MOST_MEMOS = 200


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    """Jobs, newest first; search takes an id, or how a task's path begins."""

    # Ids rise with time, and both tables behind the view have them as primary key.
    ordering = ["-id"]
    sortable_by = ()
    list_display = [
        *("short_id", "name", "state", "reason", "queue_name", "priority"),
        *("enqueued_at", "run_after", "started_at", "finished_at", "attempts"),
    ]
    # No filter by queue: its choices would have to be read from all rows. The list
    # understands "?queue_name=mail" in its address.
    list_filter = ["state", "reason"]
    # Not empty, so that the search box is shown; get_search_results does the work.
    search_fields = ["task_path"]
    search_help_text = _("A job's id, or the beginning of a task's path")
    fieldsets = [
        (
            None,
            {"fields": ["id", "name", "task_path", "state", "reason", "queue_name"]},
        ),
        (_("Call"), {"fields": ["shown_args", "shown_kwargs", "priority"]}),
        (
            _("Times"),
            {"fields": ["enqueued_at", "run_after", "started_at", "finished_at"]},
        ),
        (
            _("Outcome"),
            {"fields": ["shown_return_value", "shown_progress", "shown_errors"]},
        ),
        (
            _("Attempts"),
            {"fields": ["attempts", "max_attempts", "crashes", "shown_history"]},
        ),
        (_("Steps"), {"fields": ["shown_steps", "shown_workspace"]}),
        (_("Durable steps"), {"fields": ["shown_memos"]}),
        (_("More"), {"fields": ["backend_alias", "shown_metadata", "shown_workers"]}),
    ]

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[JobQuerySet, bool]:
        """Find by id or by how the task's path begins; nothing else is quick."""
        term = search_term.strip()
        id = parse_id(term)
        if id is not None:
            queryset = queryset.filter(pk=id)
        elif term:
            queryset = queryset.filter(task_path__startswith=term)
        return queryset, False

    @admin.display(description=_("id"))
    def short_id(self, job: Job) -> str:
        # The beginning is the time, which all jobs of a minute share.
        return f"…{str(job.pk)[-12:]}"

    @admin.display(description=_("arguments"))
    def shown_args(self, job: Job) -> SafeString:
        return as_json(job.args)

    @admin.display(description=_("keyword arguments"))
    def shown_kwargs(self, job: Job) -> SafeString:
        return as_json(job.kwargs)

    @admin.display(description=_("return value"))
    def shown_return_value(self, job: Job) -> SafeString:
        return as_json(job.return_value)

    @admin.display(description=_("progress"), empty_value="-")
    def shown_progress(self, job: Job) -> SafeString | None:
        return None if job.progress is None else as_json(job.progress)

    @admin.display(description=_("steps"), empty_value="-")
    def shown_steps(self, job: Job) -> SafeString | None:
        if job.plan is None:
            return None
        rows = (
            (n + 1, path, "\N{LEFTWARDS ARROW}" if n == job.step else "")
            for n, path in enumerate(job.steps)
        )
        return format_html_join("", "<div>{}. {} {}</div>", rows)

    @admin.display(description=_("workspace"), empty_value="-")
    def shown_workspace(self, job: Job) -> SafeString | None:
        return None if job.workspace is None else as_json(job.workspace)

    @admin.display(description=_("metadata"), empty_value="-")
    def shown_metadata(self, job: Job) -> SafeString | None:
        return None if job.metadata is None else as_json(job.metadata)

    @admin.display(description=_("errors"), empty_value="-")
    def shown_errors(self, job: Job) -> SafeString:
        shown = ((preformatted(error.traceback),) for error in job.errors)
        return format_html_join("", "{}", shown)

    @admin.display(description=_("past attempts"), empty_value="-")
    def shown_history(self, job: Job) -> SafeString:
        rows = (
            (entry["attempt"], entry["worker"], *_when(entry), entry["cause"])
            for entry in job.history or ()
        )
        return format_html_join("", "<div>{}. {}: {} to {}, {}</div>", rows)

    @admin.display(description=_("recorded"), empty_value="-")
    def shown_memos(self, job: Job) -> SafeString:
        found = Memo.objects.using(job._state.db).filter(job=job.pk)
        rows = (
            (memo.recorded_at, memo.name, memo.get_kind_display(), as_json(memo.result))
            for memo in found.order_by("recorded_at")[:MOST_MEMOS]
        )
        return format_html_join("", "<div>{}: {} ({}) {}</div>", rows)

    @admin.display(description=_("workers"), empty_value="-")
    def shown_workers(self, job: Job) -> str:
        return ", ".join(job.worker_ids)


def _when(entry: dict[str, Any]) -> tuple[str, str]:
    return entry["started_at"], entry["ended_at"]
