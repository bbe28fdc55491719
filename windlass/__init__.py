"""
Durable background work for Django on the database you already run.

Importing this package imports no model and needs no configured settings, so
``from windlass import task`` works at the top of any module.
"""

from windlass.jobs.keys import concurrency, rate_limit, unique
from windlass.jobs.retries import Cancel, Retry, Snooze, exponential
from windlass.task import Task, task

__version__ = "0.1.0.dev0"

__all__ = [
    "Cancel",
    "Retry",
    "Snooze",
    "Task",
    "__version__",
    "concurrency",
    "exponential",
    "rate_limit",
    "task",
    "unique",
]
