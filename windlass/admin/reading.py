"""
What both admins share: pages that show and change nothing, and a count that ends.

Counting is what makes a list of millions slow, so the paginator stops at a cap and
says "10000+". Whoever looks for something older narrows the list instead.
"""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.core.paginator import Paginator
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

CAP = 10_000


class AtLeast(int):
    """A count that stopped at the cap, shown with a plus."""

    def __str__(self) -> str:
        # Django's grouping of thousands takes a number's text apart, digit by digit.
        plus = "" if settings.USE_THOUSAND_SEPARATOR else "+"
        return int.__repr__(self) + plus


class CappedPaginator(Paginator):
    """Counts at most one row more than the cap."""

    @cached_property
    def count(self) -> int:
        """How many rows there are, or that there are more than the cap."""
        rows: Any = self.object_list
        found = rows.order_by()[: CAP + 1].count()
        return found if found <= CAP else AtLeast(CAP)


class ReadOnlyAdmin(admin.ModelAdmin):
    """Lists and shows rows; whoever may view them may do nothing else."""

    actions = None
    list_per_page = 100
    list_max_show_all = 100
    paginator = CappedPaginator
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def as_json(value: Any) -> SafeString:
    """A JSON value, indented and escaped."""
    return preformatted(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def preformatted(text: str) -> SafeString:
    """Text as it is, escaped."""
    return format_html('<pre style="white-space: pre-wrap">{}</pre>', text)
