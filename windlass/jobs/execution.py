"""
Run one claimed job: resolve its task, call it, decide the outcome.

Whatever the task does, one Outcome comes back, and no error of the task gets out.
Nothing here writes to the database, with one exception: a task that is ``atomic`` has
its completion written in the transaction of its own writes. What was recorded is then
told by ``announcing``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.db import transaction

from windlass import db
from windlass.db import Claimed
from windlass.jobs import announcing, lifecycle, outcomes, resolving, steps
from windlass.jobs.arguments import dump_result
from windlass.jobs.context import JobContext, insist
from windlass.jobs.outcomes import Executor, Outcome
from windlass.jobs.policies import refusal, timeout_of
from windlass.jobs.resolving import STEP
from windlass.jobs.results import JobResult
from windlass.signals import heard
from windlass.tasks_api import Task, task_finished, task_started

__all__ = ["Executor", "Outcome", "arun", "run"]


def run(job: Claimed, executor: Executor) -> Outcome:
    """Run a job in the calling thread."""
    started = executor.clock()
    if job.policy is not None and (reason := refusal(job, now=started)):
        return outcomes.discarded(job, reason, executor, started)
    task, result = _start(job, executor, started)
    step: steps.Step | None = None
    try:
        if task is None:
            task = resolving.resolve_call(job)
        args, kwargs = _arguments(job, task, result, executor)
        # Only what nobody can put on an event loop goes the long way round.
        call = task.call if resolving.is_coroutine(job.task_path) else task.func
        if job.policy is not None and STEP in job.policy:
            step = steps.load(job, executor, started)
            call = partial(step.call, call)
        if getattr(task, "atomic", False) and executor.database:
            call = partial(call, *args, **kwargs)
            return _atomically(job, call, result, executor, started, step)
        executor.begin(job)
        try:
            value = call(*args, **kwargs)
        finally:
            executor.done(job)
            if result is not None:
                insist(args)
        text = dump_result(value)
    except BaseException as error:  # noqa: BLE001 - it is the outcome
        outcome = outcomes.failed(job, error, executor, started, result=result)
    else:
        outcome = outcomes.succeeded(job, result, value, text, executor, started)
    return outcome if step is None else steps.conclude(step, outcome, executor)


async def arun(job: Claimed, executor: Executor) -> Outcome:
    """Run a coroutine task on the running event loop; see ``run``."""
    started = executor.clock()
    if job.policy is not None and (reason := refusal(job, now=started)):
        return outcomes.discarded(job, reason, executor, started)
    task, result = _start(job, executor, started)
    step: steps.Step | None = None
    try:
        if task is None:
            task = resolving.resolve_call(job)
        args, kwargs = _arguments(job, task, result, executor)
        call = task.func
        if job.policy is not None and STEP in job.policy:
            step = await sync_to_async(steps.load)(job, executor, started)
            call = partial(step.acall, call)
        executor.begin(job)
        try:
            value = await call(*args, **kwargs)
        finally:
            executor.done(job)
            if result is not None:
                insist(args)
        text = dump_result(value)
    except BaseException as error:  # noqa: BLE001 - it is the outcome
        outcome = outcomes.failed(job, error, executor, started, result=result)
    else:
        outcome = outcomes.succeeded(job, result, value, text, executor, started)
    return outcome if step is None else steps.conclude(step, outcome, executor)


def _start(
    job: Claimed, executor: Executor, started: float
) -> tuple[Task | None, JobResult | None]:
    task = resolving.find(job)
    shown = executor.shows_results or heard(task_started, task_finished)
    if not shown and task is not None and not task.takes_context:
        return task, None
    result = outcomes.running(job, task, executor, started)
    if heard(task_started):
        announcing.tell(task_started, result, executor)
    return task, result


def _arguments(
    job: Claimed, task: Task, result: JobResult | None, executor: Executor
) -> tuple[list[Any], dict[str, Any]]:
    if result is None:
        kwargs = json.loads(job.kwargs) if job.kwargs != "{}" else {}
        return json.loads(job.args), kwargs
    if not task.takes_context:
        return result.args, result.kwargs
    context = JobContext(
        task_result=result,
        job=job,
        node=executor.node,
        database=executor.database,
        stop_asked=executor.stop_asked,
        timeout=timeout_of(job),
    )
    return [context, *result.args], result.kwargs


def _atomically(
    job: Claimed,
    call: Callable[[], Any],
    result: JobResult | None,
    executor: Executor,
    started: float,
    step: steps.Step | None,
) -> Outcome:
    """Commit what the task writes and that it succeeded together, or neither."""
    with transaction.atomic(using=executor.database):
        executor.begin(job)
        try:
            value = call()
        finally:
            executor.done(job)
        text = dump_result(value)
        outcome = outcomes.succeeded(job, result, value, text, executor, started)
        if step is not None:
            outcome = steps.conclude(step, outcome, executor)
            if outcome.error is not None:
                raise outcome.error
        own = db.dialect(executor.database)
        lifecycle.record_one(own, executor.node, outcome.move)
    return outcome._replace(recorded=True)
