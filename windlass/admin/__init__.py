"""Windlass in Django's admin: jobs, nodes, queues, limits and schedules, to read."""

from windlass.admin.jobs import JobAdmin
from windlass.admin.limits import LimitAdmin
from windlass.admin.nodes import NodeAdmin
from windlass.admin.queues import QueueAdmin
from windlass.admin.schedules import ScheduleAdmin

__all__ = ["JobAdmin", "LimitAdmin", "NodeAdmin", "QueueAdmin", "ScheduleAdmin"]
