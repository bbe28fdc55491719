"""
Processes in Django's admin: bases for the admins of a project's own models.

What the engine owns is shown and cannot be edited. Starting, cancelling and restarting
are actions, each with a permission that a subclass may decide otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from django.contrib import admin, messages
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from windlass.processes.gaps import in_words
from windlass.processes.moves import OWNED

# So many of the last lines are shown with their process.
LAST = 50


class LastLines(BaseInlineFormSet):
    """The last lines of a process, in order; never all of them."""

    def get_queryset(self) -> Any:
        """Read them once."""
        if not hasattr(self, "_last"):
            lines = super().get_queryset().order_by("-sequence")[:LAST]
            self._last = sorted(lines, key=lambda line: line.sequence)
            for before, line in pairwise(self._last):
                line._left_out_before = line.sequence - before.sequence - 1
        return self._last


class ProcessLogInline(admin.TabularInline):
    """The last lines of the log. Set ``model`` to the model of the lines."""

    formset = LastLines
    fields = ("sequence", "created", "level", "stream", "shown_message")
    readonly_fields = ("sequence", "created", "level", "stream", "shown_message")
    ordering = ("sequence",)
    extra = 0
    can_delete = False
    verbose_name_plural = _("last lines of the log")

    @admin.display(description=_("message"))
    def shown_message(self, line: Any) -> str | SafeString:
        count = getattr(line, "_left_out_before", 0)
        if not count:
            return str(line.message)
        return format_html("<em>{}</em><br>{}", in_words(count), line.message)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ProcessAdmin(admin.ModelAdmin):
    """Lists, shows and steers processes."""

    list_display = (
        *("id", "status", "shown_progress", "attempts"),
        *("created", "started", "finished"),
    )
    list_filter = ("status",)
    ordering = ("-pk",)
    actions = ("start_selected", "cancel_selected", "restart_selected")
    show_full_result_count = False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """What the project says, and all that the engine owns."""
        given = super().get_readonly_fields(request, obj)
        own = ("shown_log", *OWNED, "created", "modified")
        hidden = ("run_token", "sandbox_id")
        return [*given, *(n for n in own if n not in given and n not in hidden)]

    def has_start_permission(self, request: HttpRequest) -> bool:
        """Who may start processes: by default who may change them."""
        return self.has_change_permission(request)

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Who may cancel processes: by default who may change them."""
        return self.has_change_permission(request)

    def has_restart_permission(self, request: HttpRequest) -> bool:
        """Who may restart processes: by default who may change them."""
        return self.has_change_permission(request)

    @admin.action(description=_("Start selected"), permissions=["start"])
    def start_selected(self, request: HttpRequest, queryset: Any) -> None:
        """Start those that may be started, and say which may not."""
        self._each(request, queryset, lambda process: process.start())

    @admin.action(description=_("Cancel selected"), permissions=["cancel"])
    def cancel_selected(self, request: HttpRequest, queryset: Any) -> None:
        """Cancel those that have not ended, and say which have."""
        self._each(request, queryset, lambda process: process.cancel())

    @admin.action(description=_("Restart selected"), permissions=["restart"])
    def restart_selected(self, request: HttpRequest, queryset: Any) -> None:
        """Restart those that have ended, and say which have not."""
        self._each(request, queryset, lambda process: process.restart())

    def _each(
        self, request: HttpRequest, queryset: Any, act: Callable[[Any], object]
    ) -> None:
        done = 0
        for process in queryset:
            try:
                act(process)
                done += 1
            except (RuntimeError, ValueError) as error:
                self.message_user(request, str(error), messages.WARNING)
        said = ngettext("Done for %d process.", "Done for %d processes.", done)
        self.message_user(request, said % done)

    @admin.display(description=_("progress"), empty_value="-")
    def shown_progress(self, process: Any) -> str | None:
        said = process.progress_data
        if not said:
            return None
        share = said.get("percent")
        return f"{said['current']}" if share is None else f"{share:g} %"

    @admin.display(description=_("log"), empty_value="-")
    def shown_log(self, process: Any) -> SafeString | None:
        if process.pk is None:
            return None
        label = process._meta.label_lower
        try:
            url = reverse("windlass_processes:log", args=[label, process.pk])
        except NoReverseMatch:
            # The project has not included the views' addresses.
            return None
        return format_html('<a href="{}">{}</a>', url, _("Show the log"))
