"""Windlass in Django's admin: jobs, nodes and queues, to read and to search."""

from windlass.admin.jobs import JobAdmin
from windlass.admin.nodes import NodeAdmin
from windlass.admin.queues import QueueAdmin

__all__ = ["JobAdmin", "NodeAdmin", "QueueAdmin"]
