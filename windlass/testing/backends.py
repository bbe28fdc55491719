"""
Django's two test backends, for tasks with Windlass's policies.

``ImmediateBackend`` runs each call at once, in the caller's thread; ``DummyBackend``
keeps it in a list. Both check a call as the real backend does and hand its arguments
through JSON, so what would be refused in production is refused in a test. Neither
touches a database.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connections, transaction
from django.utils import timezone

from windlass import tasks_api
from windlass.backend import Call, WindlassBackend
from windlass.db import Claimed
from windlass.jobs import execution, results
from windlass.jobs.arguments import dump_call, dump_value
from windlass.jobs.context import JobContext
from windlass.jobs.execution import Executor
from windlass.jobs.ids import uuid7
from windlass.jobs.results import JobResult, put
from windlass.task import Task
from windlass.tasks_api import BaseTaskBackend, task_enqueued

DATABASE = "default"


class _Bulk(BaseTaskBackend):
    """What the real backend can do beside Django's, on top of ``enqueue``."""

    task_class = Task
    validate_task = WindlassBackend.validate_task

    def enqueue_all(self, calls: Iterable[Call]) -> list[JobResult]:
        """Enqueue many calls, given as (task, args, kwargs): all of them or none."""
        calls = list(calls)
        for task, args, kwargs in calls:
            self.validate_task(task)
            dump_call(task.module_path, args, kwargs)
        return [self.enqueue(*call) for call in calls]

    async def aenqueue_all(self, calls: Iterable[Call]) -> list[JobResult]:
        """See ``enqueue_all``."""
        return await sync_to_async(self.enqueue_all)(calls)

    def enqueue_on_commit(
        self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        """Enqueue when the transaction commits; outside one, now."""
        self.validate_task(task)
        text = dump_call(task.module_path, args, kwargs)
        later = partial(self.enqueue, task, *map(json.loads, text))
        database = self.options.get("database_alias", DATABASE)
        # Not on_commit alone: outside a transaction it would open a connection.
        if connections[database].in_atomic_block:
            transaction.on_commit(later, using=database)
        else:
            later()
