"""Windlass in Django's admin: jobs, nodes, queues and schedules, to read and search."""

from windlass.admin.jobs import JobAdmin
from windlass.admin.nodes import NodeAdmin
from windlass.admin.queues import QueueAdmin
from windlass.admin.schedules import ScheduleAdmin

__all__ = ["JobAdmin", "NodeAdmin", "QueueAdmin", "ScheduleAdmin"]
