"""Nouns: the tables, the ``Job`` view over them, and their named scopes. No rules."""

from windlass.models.cancels import CancelRequest
from windlass.models.jobs import EndedJob, LiveJob, Reason, State
from windlass.models.limits import Slot, Waiter
from windlass.models.memos import Event, Memo
from windlass.models.nodes import Node
from windlass.models.queues import Queue
from windlass.models.rates import RateWindow
from windlass.models.schedules import Schedule, ScheduleMark
from windlass.models.view import Job

__all__ = [
    "CancelRequest",
    "EndedJob",
    "Event",
    "Job",
    "LiveJob",
    "Memo",
    "Node",
    "Queue",
    "RateWindow",
    "Reason",
    "Schedule",
    "ScheduleMark",
    "Slot",
    "State",
    "Waiter",
]
