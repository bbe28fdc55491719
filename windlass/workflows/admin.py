"""Runs in Django's admin: a list, each with its members, cancel and retry."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db import router
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from windlass.admin.reading import ReadOnlyAdmin, as_json
from windlass.exceptions import StaleJob
from windlass.models.view import parse_id
from windlass.workflows.models import RunState, WorkflowRun

MEMBERS_SHOWN = 500
CHANGE = "windlass_workflows.change_workflowrun"


@admin.register(WorkflowRun)
class WorkflowRunAdmin(ReadOnlyAdmin):
    """Runs, newest first; who may change runs may cancel and retry them."""

    ordering = ["-created_at"]
    sortable_by = ()
    list_display = ["name", "state", "created_at", "finished_at", "backend_alias"]
    list_filter = ["state"]
    search_fields = ["name"]
    search_help_text = _("A run's id, or the beginning of its name")
    fields = [
        *("id", "name", "state", "shown_progress", "created_at", "finished_at"),
        *("cancel_reason", "backend_alias", "shown_workspace", "shown_members"),
    ]
    actions = ["cancel_runs", "retry_runs"]  # type: ignore[assignment]

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        """Find by id or by how the name begins."""
        term = search_term.strip()
        id = parse_id(term)
        if id is not None:
            queryset = queryset.filter(pk=id)
        elif term:
            queryset = queryset.filter(name__startswith=term)
        return queryset, False

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Whether somebody may cancel and retry; seeing is another permission."""
        return request.user.has_perm(CHANGE)

    @admin.action(description=_("Cancel the selected runs"), permissions=["operate"])
    def cancel_runs(self, request: HttpRequest, runs: QuerySet[WorkflowRun]) -> None:
        """Cancel what has not ended of each run."""
        database = router.db_for_write(WorkflowRun)
        going = list(runs.using(database).filter(state=RunState.RUNNING))
        for run in going:
            run.cancel(f"by {request.user}")
        messages.success(request, _("%d runs are cancelled.") % len(going))

    @admin.action(description=_("Retry the selected runs"), permissions=["operate"])
    def retry_runs(self, request: HttpRequest, runs: QuerySet[WorkflowRun]) -> None:
        """Run again what failed of each run, and what comes after it."""
        alive = 0
        for run in runs.using(router.db_for_write(WorkflowRun)):
            try:
                alive += run.retry()
            except StaleJob as error:
                messages.error(request, str(error))
        messages.success(request, _("%d jobs live again.") % alive)

    @admin.display(description=_("progress"))
    def shown_progress(self, run: WorkflowRun) -> str:
        progress = run.progress
        return f"{progress.done} / {progress.total}"

    @admin.display(description=_("workspace"))
    def shown_workspace(self, run: WorkflowRun) -> SafeString:
        return as_json(run.workspace)

    @admin.display(description=_("members"))
    def shown_members(self, run: WorkflowRun) -> SafeString:
        rows = [
            (_page(member.pk), member.name, member.outcome or _("open"), member.why)
            for member in run.members[:MEMBERS_SHOWN]
        ]
        listed = format_html_join("", '<div><a href="{}">{}</a>: {} {}</div>', rows)
        more = run.progress.total - len(rows)
        return format_html("{}{}", listed, f"+ {more}" if more > 0 else "")


def _page(job: Any) -> str:
    return reverse("admin:windlass_job_change", args=[job])
