"""Windlass in Django's admin: every job and every node, to read and to search."""

from windlass.admin.jobs import JobAdmin
from windlass.admin.nodes import NodeAdmin

__all__ = ["JobAdmin", "NodeAdmin"]
