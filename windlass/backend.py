"""
The Django Tasks backend: from a call in the user's code to a stored job.

Validation comes first and storing last, in the caller's own transaction and with
one statement, so a refused call leaves nothing behind and a rollback takes the job
with it. Nothing is ever deferred silently.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.core.checks import CheckMessage
from django.db import transaction

from windlass import conf, db, tasks_api
from windlass.db import NewJob
from windlass.exceptions import RefusedTask
from windlass.jobs import announcing, lifecycle, results, unique
from windlass.jobs.arguments import dump_call, dump_value
from windlass.jobs.ids import uuid7, uuid7s
from windlass.jobs.keys import LIMITED, UNIQUE, key_of, limit_keys, share_of
from windlass.jobs.policies import check_policy, stored
from windlass.jobs.results import JobResult
from windlass.jobs.wakeups import wakeups
from windlass.models.jobs import State
from windlass.models.view import Job, parse_id
from windlass.signals import heard
from windlass.task import Task, check_call
from windlass.tasks_api import (
    BaseTaskBackend,
    InvalidTask,
    TaskResultDoesNotExist,
    task_enqueued,
)

Call = tuple[Any, Sequence[Any], Mapping[str, Any]]
# Tasks whose validation is remembered; each .using() makes another one.
MOST_CALLS = 1000
# The share of what all jobs of a task have in common, if each has keys of its own.
KEYED = "?"
# With these the statement that stores a job tells of it.
NOTIFYING = ("auto", "notify")


@contextmanager
def _uncollected() -> Iterator[None]:
    # So many objects at once look like garbage to the collector, which would search
    # them again and again: a third of the time. None of them is in a cycle.
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


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
        self._calls: dict[int, tuple[Any, NewJob]] = {}

    @property
    def configuration(self) -> conf.Options:
        """This alias's options; raise ConfigurationError if they are wrong."""
        return conf.options(self.alias)

    @property
    def database(self) -> str:
        """The database alias on which this backend's jobs are stored."""
        return self.configuration.database_alias

    # Enqueue

    def validate_task(self: BaseTaskBackend, task: Any) -> None:
        """Refuse a task that cannot be run here, with EnqueueError (an InvalidTask)."""
        check_call(task)
        try:
            # Not super(): the test backends, whose bases are Django's, use this too.
            BaseTaskBackend.validate_task(self, task)
        except InvalidTask as error:
            raise RefusedTask(f"{task.module_path}: {error}") from error
        check_policy(task)

    def enqueue(
        self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> JobResult:
        """
        Store one job in the caller's transaction and return its result.

        Raises EnqueueError (also a TypeError or InvalidTask) with nothing stored.
        """
        job = self._new_job(uuid7(), self._checked_call(task), args, kwargs)
        if job.share:
            job = self._limited(task, job, (task, args, kwargs))
        rule = getattr(task.func, UNIQUE, None)
        key = rule and key_of(rule, task, args, kwargs)
        if rule and key:
            return self.enqueue_unique(job, key, rule.on_conflict)
        (enqueued_at,) = self.store([job])
        result = results.of_new(task, job, args, kwargs, enqueued_at)
        if heard(task_enqueued):
            task_enqueued.send_robust(sender=type(self), task_result=result)
        return result

    def enqueue_all(self, calls: Iterable[Call]) -> list[JobResult]:
        """
        Store many jobs at once, given as (task, args, kwargs): all of them or none.

        A few statements however many they are; the results come in the calls' order.
        """
        calls = list(calls)
        tasks = {id(task): task for task, _args, _kwargs in calls}
        parts = {key: self._checked_call(task) for key, task in tasks.items()}
        if not calls:
            return []
        if any(hasattr(task.func, UNIQUE) for task in tasks.values()):
            # Each depends on those before it, in this very call too.
            with transaction.atomic(using=self.database):
                return [self.enqueue(*call) for call in calls]
        with _uncollected():
            ids = uuid7s(len(calls))
            jobs = [
                self._new_job(job_id, parts[id(task)], args, kwargs)
                for job_id, (task, args, kwargs) in zip(ids, calls, strict=True)
            ]
            if any(part.share for part in parts.values()):
                jobs = list(map(self._limited, (c[0] for c in calls), jobs, calls))
            own = self.configuration
            dialect, notify = db.dialect(own.database_alias), own.wakeup in NOTIFYING
            with lifecycle.enqueueing(dialect, jobs, notify=notify) as times:
                found = [
                    results.of_new(call[0], job, *call[1:], time)
                    for call, job, time in zip(calls, jobs, times, strict=True)
                ]
            self._announce(jobs)
        if heard(task_enqueued):
            for result in found:
                task_enqueued.send_robust(sender=type(self), task_result=result)
        return found

    def new_job(self, call: Call, id: str) -> NewJob:
        """A checked job that is not stored, without its keys; raises EnqueueError."""
        return self._new_job(id, self._checked_call(call[0]), *call[1:])

    def keyed(self, job: NewJob, call: Call) -> NewJob:
        """The same job with the keys of its limits; what is unique is left aside."""
        return self._limited(call[0], job, call) if job.share else job

    def enqueue_unique(self, job: NewJob, key: str, on_conflict: str) -> JobResult:
        """Store one job unless its key is held; give back whose result to show."""
        own = self.configuration
        dialect = db.dialect(own.database_alias)
        notify = own.wakeup in NOTIFYING
        with transaction.atomic(using=own.database_alias):
            id = unique.enqueue(dialect, job, key, on_conflict, notify=notify)
            self._announce([job])
            result = self.get_result(id)
        if id == job.id and result.state == State.DISCARDED:
            tell = partial(announcing.discarded, dialect, self.alias, [id])
            transaction.on_commit(tell, using=own.database_alias)
        elif id == job.id and heard(task_enqueued):
            task_enqueued.send_robust(sender=type(self), task_result=result)
        return result

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

    def store(self, jobs: list[NewJob]) -> list[datetime]:
        """Store jobs in the caller's transaction, and wake who waits for them."""
        own = self.configuration
        dialect, notify = db.dialect(own.database_alias), own.wakeup in NOTIFYING
        times = lifecycle.enqueue(dialect, jobs, notify=notify)
        if not notify:
            self._announce(jobs)
        return times

    def _announce(self, jobs: list[NewJob]) -> None:
        own = self.configuration
        wakeups(own).announce(jobs, db.dialect(own.database_alias))

    def _checked_call(self, task: Any) -> NewJob:
        """What all jobs of a task share, if the task may be enqueued here."""
        known = self._calls.get(id(task))
        if known is not None and known[0] is task:
            return known[1]
        if not isinstance(task, tasks_api.Task):
            raise RefusedTask(f"{task!r} is not a task. Decorate it with @task.")
        if task.backend != self.alias:
            raise RefusedTask(
                f"{task.module_path} belongs to the backend {task.backend!r}, not to "
                f"{self.alias!r}. Enqueue task.using(backend={self.alias!r})."
            )
        self.validate_task(task)
        call = self._call(task)
        # A task is immutable, so it stays valid; its metadata is a dict, and may not.
        # When a job expires depends on the moment.
        expires = getattr(task, "expires", None)
        if task.run_after is None and call.metadata is None and expires is None:
            if len(self._calls) >= MOST_CALLS:
                self._calls.clear()
            self._calls[id(task)] = (task, call)
        return call

    def _call(self, task: Any) -> NewJob:
        # A job without id and arguments.
        metadata = getattr(task, "metadata", None)
        is_fair = getattr(task, "fair_by", None) is not None
        return NewJob(
            "",
            self.alias,
            task.queue_name,
            -task.priority,
            task.module_path,
            "",
            "",
            getattr(task, "max_attempts", None) or self.configuration.max_attempts,
            task.run_after,
            None if metadata is None else dump_value(metadata, "metadata"),
            stored(task, now=time.time()),
            # To be replaced: its keys are made from each call.
            KEYED if is_fair or vars(task.func).keys() & LIMITED else "",
        )

    def _new_job(
        self, id: str, call: NewJob, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> NewJob:
        args_text, kwargs_text = dump_call(call.task_path, args, kwargs)
        return NewJob._make((id, *call[1:5], args_text, kwargs_text, *call[7:]))

    def _limited(self, task: Any, job: NewJob, call: Call) -> NewJob:
        said: dict[str, Any] = {**limit_keys(task, *call[1:])}
        if share := share_of(task, *call[1:]):
            # A retry by hand makes the row anew, and needs it.
            said["share"] = share
        if not said:
            return job._replace(share="")
        policy = json.loads(job.policy) if job.policy else {}
        return job._replace(policy=json.dumps({**policy, **said}), share=share or "")

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
