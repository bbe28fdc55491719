"""
Django's two test backends, for tasks with Windlass's policies.

``ImmediateBackend`` runs each call at once, in the caller's thread; ``DummyBackend``
keeps it in a list. Both check a call as the real backend does and hand its arguments
through JSON, so what production would refuse is refused in a test. Neither touches a
database.
"""

from __future__ import annotations

import json
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
from windlass.jobs import announcing, execution, results
from windlass.jobs.arguments import dump_call, dump_value
from windlass.jobs.ids import uuid7
from windlass.jobs.outcomes import Executor
from windlass.jobs.resolving import put
from windlass.jobs.results import JobResult
from windlass.task import Task
from windlass.tasks_api import BaseTaskBackend, task_enqueued


def enqueue_all(self: Any, calls: Iterable[Call]) -> list[JobResult]:
    """Enqueue many calls, given as (task, args, kwargs): all of them or none."""
    calls = list(calls)
    for task, args, kwargs in calls:
        self.validate_task(task)
        dump_call(task.module_path, args, kwargs)
    return [self.enqueue(*call) for call in calls]


async def aenqueue_all(self: Any, calls: Iterable[Call]) -> list[JobResult]:
    """See ``enqueue_all``."""
    return await sync_to_async(enqueue_all)(self, calls)


def enqueue_on_commit(
    self: Any, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> None:
    """Enqueue when the transaction commits; outside one, now."""
    self.validate_task(task)
    text = dump_call(task.module_path, args, kwargs)
    later = partial(self.enqueue, task, *map(json.loads, text))
    database = self.options.get("database_alias", "default")
    # on_commit() by itself would open a connection to find that it has no transaction.
    if connections[database].in_atomic_block:
        transaction.on_commit(later, using=database)
    else:
        later()


class DummyBackend(tasks_api.DummyBackend):
    """Keeps what is enqueued in ``results``, and runs nothing."""

    task_class = Task
    validate_task = WindlassBackend.validate_task
    enqueue_all = enqueue_all
    aenqueue_all = aenqueue_all
    enqueue_on_commit = enqueue_on_commit

    def enqueue(
        self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> JobResult:
        """Keep one call; raise EnqueueError if the real backend would."""
        result = _new_result(self, task, args, kwargs)
        self.results.append(result)
        task_enqueued.send(type(self), task_result=result)
        # A copy, as Django's: what the caller does to it is not what was enqueued.
        return deepcopy(result)


class ImmediateBackend(tasks_api.ImmediateBackend):
    """
    Runs what is enqueued at once.

    Each call is one attempt, and what ``retry_on`` or ``Retry`` would repeat later is
    failed now. A task that snoozes stays READY. Ctrl-C ends the test, not the task.
    """

    task_class = Task
    validate_task = WindlassBackend.validate_task
    enqueue_all = enqueue_all
    aenqueue_all = aenqueue_all
    enqueue_on_commit = enqueue_on_commit

    def enqueue(
        self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> JobResult:
        """Run one call and return its result; raise EnqueueError if it is refused."""
        result = _new_result(self, task, args, kwargs)
        task_enqueued.send(type(self), task_result=result)
        # Without a database there is nobody to tell but the result at hand.
        executor = Executor(node=1, database="", backend=type(self))
        outcome = execution.run(_claimed(result), executor)
        if isinstance(outcome.error, KeyboardInterrupt):
            raise outcome.error
        assert outcome.result is not None, "an Executor shows results by default"
        put(outcome.result, "task", task)
        announcing.announce(outcome, executor)
        return outcome.result


def _new_result(
    backend: BaseTaskBackend,
    task: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> JobResult:
    backend.validate_task(task)
    text = dump_call(task.module_path, args, kwargs)
    now = timezone.now()
    given, named = map(json.loads, text)
    result = results.make(task, uuid7(), given, named, now)
    put(result, "backend", backend.alias)
    metadata = getattr(task, "metadata", None)
    put(result, "metadata", json.loads(dump_value(metadata, "metadata")))
    if task.run_after is not None and task.run_after > now:
        put(result, "state", "scheduled")
    return result


def _claimed(result: JobResult) -> Claimed:
    """The result as the job that a worker would have claimed."""
    task = result.task
    now: Any = result.enqueued_at
    return Claimed(
        id=result.id,
        claim=1,
        backend_alias=result.backend,
        queue_name=task.queue_name,
        nice=-task.priority,
        task_path=task.module_path,
        args=json.dumps(result.args),
        kwargs=json.dumps(result.kwargs),
        attempts=1,
        max_attempts=1,
        crashes=0,
        enqueued_at=now,
        available_at=now,
        history=None,
        metadata=None if result.metadata is None else json.dumps(result.metadata),
        policy=None,
    )
