"""Nouns: the tables, the ``Job`` view over them, and their named scopes. No rules."""

from windlass.models.cancels import CancelRequest
from windlass.models.jobs import EndedJob, Job, LiveJob, Reason, State
from windlass.models.nodes import Node

__all__ = ["CancelRequest", "EndedJob", "Job", "LiveJob", "Node", "Reason", "State"]
