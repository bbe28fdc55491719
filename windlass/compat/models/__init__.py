"""``Job`` by the names of earlier packages. Every job is seen, by whatever door."""

from windlass.compat.models.database_task import DatabaseTask
from windlass.compat.models.queue_job import QueueJob

__all__ = ["DatabaseTask", "QueueJob"]
