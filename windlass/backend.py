"""
The Django Tasks backend: from a call in the user's code to a stored job.

Validation comes first and storing last, in the caller's own transaction and with
one statement, so a refused call leaves nothing behind and a rollback takes the job
with it. Nothing is ever deferred silently.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.core.checks import CheckMessage
from django.db import transaction

from windlass import conf, db
from windlass.db import NewJob
from windlass.exceptions import RefusedTask
from windlass.jobs import lifecycle, results
from windlass.jobs.arguments import dump_call
from windlass.jobs.ids import uuid7
from windlass.jobs.results import JobResult, put
from windlass.models.jobs import Job, parse_id
from windlass.task import Task, check_policy
from windlass.tasks_api import (
    BaseTaskBackend,
    InvalidTask,
    TaskResultDoesNotExist,
    task_enqueued,
)

Call = tuple[Any, Sequence[Any], Mapping[str, Any]]
QUEUE_LENGTH, PATH_LENGTH = 255, 500


class WindlassBackend(BaseTaskBackend):
    """Jobs in the database, run by ``manage.py windlass``."""

    is_windlass = True
    task_class = Task
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self.params = params

    @property
    def configuration(self) -> conf.Options:
        """This alias's options; raise ConfigurationError if they are wrong."""
        return conf.options(self.alias)

    @property
    def database(self) -> str:
        """The database alias on which this backend's jobs are stored."""
        return self.configuration.database_alias

    # Enqueue

    def validate_task(self, task: Any) -> None:
        """Refuse a task that cannot be run here, with EnqueueError (an InvalidTask)."""
        if type(task.priority) is not int:
            raise RefusedTask(
                f"priority must be a whole number from -100 to 100, "
                f"not {task.priority!r}."
            )
        if task.run_after is not None and not isinstance(task.run_after, datetime):
            raise RefusedTask(
                f"run_after must be an aware datetime or a timedelta, "
                f"not {task.run_after!r}."
            )
        try:
            super().validate_task(task)
        except InvalidTask as error:
            raise RefusedTask(str(error)) from error
        if not isinstance(task.queue_name, str) or not task.queue_name:
            raise RefusedTask(f"queue_name must be a name, not {task.queue_name!r}.")
        if len(task.queue_name) > QUEUE_LENGTH or "\0" in task.queue_name:
            raise RefusedTask(f"queue_name must be at most {QUEUE_LENGTH} characters.")
        if len(task.module_path) > PATH_LENGTH:
            raise RefusedTask(f"{task.module_path}: over {PATH_LENGTH} characters.")
        check_policy(task)

    def enqueue(
        self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> JobResult:
        """
        Store one job in the caller's transaction and return its result.

        Raises EnqueueError (also a TypeError or InvalidTask) with nothing stored.
        """
        self.validate_task(task)
        job = self._new_job(task, args, kwargs)
        (enqueued_at,) = lifecycle.enqueue(db.dialect(self.database), [job])
        result = self._result(task, job, enqueued_at)
        task_enqueued.send_robust(sender=type(self), task_result=result)
        return result

    def enqueue_all(self, calls: Iterable[Call]) -> list[JobResult]:
        """
        Store many jobs at once, given as (task, args, kwargs): all of them or none.

        One statement however many they are; the results come in the calls' order.
        """
        calls = list(calls)
        for task in {id(task): task for task, _args, _kwargs in calls}.values():
            if not isinstance(task, self.task_class):
                raise RefusedTask(f"{task!r} is not a task of this backend.")
            self.validate_task(task)
        jobs = [self._new_job(*call) for call in calls]
        if not jobs:
            return []
        times = lifecycle.enqueue(db.dialect(self.database), jobs)
        found = []
        for (task, _args, _kwargs), job, time in zip(calls, jobs, times, strict=True):
            result = self._result(task, job, time)
            task_enqueued.send_robust(sender=type(self), task_result=result)
            found.append(result)
        return found

    async def aenqueue_all(self, calls: Iterable[Call]) -> list[JobResult]:
        """See ``enqueue_all``."""
        return await sync_to_async(self.enqueue_all)(calls)

    def enqueue_on_commit(
        self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        """
        Enqueue when the transaction of this backend's database commits.

        The call is validated now, so bad input is refused where it is given. Outside
        a transaction the job is stored at once.
        """
        self.validate_task(task)
        text = dump_call(task.module_path, args, kwargs)
        later = [json.loads(part) for part in text]
        transaction.on_commit(partial(self.enqueue, task, *later), using=self.database)

    def _new_job(
        self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> NewJob:
        path = task.module_path
        args_text, kwargs_text = dump_call(path, args, kwargs)
        metadata = getattr(task, "metadata", None)
        on_lost = getattr(task, "on_lost", None)
        return NewJob(
            uuid7(),
            self.alias,
            task.queue_name,
            -task.priority,
            path,
            args_text,
            kwargs_text,
            getattr(task, "max_attempts", None) or self.configuration.max_attempts,
            task.run_after,
            None if metadata is None else json.dumps(metadata),
            None if on_lost is None else json.dumps({"on_lost": on_lost}),
        )

    def _result(self, task: Any, job: NewJob, enqueued_at: datetime) -> JobResult:
        # What JSON makes of the arguments, so that this result equals a later one.
        result = results.make(
            task, job.id, json.loads(job.args), json.loads(job.kwargs), enqueued_at
        )
        if job.metadata is not None:
            put(result, "metadata", json.loads(job.metadata))
        if task.run_after is not None and task.run_after > enqueued_at:
            put(result, "state", "scheduled")
        return result

    # Results

    def get_result(self, result_id: str) -> JobResult:
        """Return a job's result by id, or raise TaskResultDoesNotExist."""
        id = parse_id(result_id)
        jobs = Job.objects.using(self.database).filter(backend_alias=self.alias)
        job = None if id is None else jobs.filter(pk=id).first()
        if job is None:
            raise TaskResultDoesNotExist(result_id)
        return results.of_job(job)

    async def aget_result(self, result_id: str) -> JobResult:
        """See ``get_result``."""
        return await sync_to_async(self.get_result)(result_id)

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        """Django's system checks of this alias."""
        from windlass.checks import check_backend

        return check_backend(self.alias)
