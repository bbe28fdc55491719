"""
The keys of concurrency limits in Django's admin: who holds places, and who waits.

One page of keys at a time, from a key on, in their order: the busiest of a million
could only be found by counting them all. ``manage.py windlass_doctor`` names some.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy as _

from windlass import db
from windlass.admin.reading import ReadOnlyAdmin
from windlass.db.limit_lines import keys_in_use, lines
from windlass.models import Waiter

KEYS = 50
# What is counted of a key.
MOST = 1_000


@admin.register(Waiter)
class LimitAdmin(ReadOnlyAdmin):
    """Keys that jobs hold or wait for; a waiting job has a page of its own."""

    fields = ["job", "key", "nice", "enqueued_at"]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the keys from the one that is asked for on."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        own = db.dialect(self.get_queryset(request).db)
        # PostgreSQL would refuse what no key can hold.
        begin = request.GET.get("from", "").replace("\0", "")
        keys = keys_in_use(own, begin=begin, limit=KEYS + 1)
        shown = lines(own, keys[:KEYS], most=MOST) if keys else []
        context = {
            **self.admin_site.each_context(request),
            "title": _("Concurrency limits"),
            "opts": self.opts,
            "lines": shown,
            "most": MOST,
            "begin": begin,
            "following": keys[KEYS] if len(keys) > KEYS else None,
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/windlass/limits.html", context)
