"""
Multi-step jobs by name: from ``Job.objects.create(name=...)`` to a stored job.

The steps of a name are what the setting ``JOBS`` says at this moment; they are stored
with the job. Whatever is wrong (a name that is not there, a step or a hook that leads
nowhere, a workspace that is not JSON, a creation hook that raises) is an EnqueueError,
and nothing is stored.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Any

from django.db import transaction
from django.utils.module_loading import import_string

from windlass import conf_jobs
from windlass.backend import WindlassBackend
from windlass.by_name import task_of
from windlass.conf_jobs import Plan
from windlass.conf_values import quoted
from windlass.db import NewJob
from windlass.exceptions import (
    ConfigurationError,
    EnqueueError,
    InvalidArguments,
    RefusedTask,
)
from windlass.jobs import by_name, results, steps
from windlass.jobs.ids import uuid7
from windlass.jobs.keys import UNIQUE, key_of, share_of
from windlass.models import Job, State
from windlass.signals import heard
from windlass.task import as_moment
from windlass.tasks_api import DEFAULT_TASK_BACKEND_ALIAS as DEFAULT
from windlass.tasks_api import task_backends, task_enqueued


def enqueue(
    *,
    name: str,
    workspace: Mapping[str, Any] | None = None,
    queue_name: str | None = None,
    priority: int | None = None,
    run_after: datetime | timedelta | None = None,
    backend_alias: str = DEFAULT,
) -> Job:
    """
    Store a job of several steps in the caller's transaction; see ``Job.objects``.

    What is left out is as the task of the first step says. Raises EnqueueError.
    """
    backend = task_backends[backend_alias]
    if not isinstance(backend, WindlassBackend):
        raise EnqueueError(
            f"Job.objects.create(name={name!r}) needs a backend of Windlass, and "
            f"{backend_alias!r} is a {type(backend).__qualname__}. Nothing was stored."
        )
    plan = _plan(name)
    found = [by_name.load_step(path) for path in plan.tasks]
    hooks = {hook: _import_hook(name, path) for hook, path in plan.hooks.items()}
    first = task_of(found[0], {"backend": backend_alias})
    job = _new(name, plan, {} if workspace is None else workspace)
    job.backend_alias = backend_alias
    job.queue_name = first.queue_name if queue_name is None else queue_name
    job.priority = first.priority if priority is None else priority
    # Only the database knows the moment of a job that is for now.
    job.run_after = as_moment(run_after)
    if "creation_hook" in hooks:
        _call_creation_hook(hooks["creation_hook"], job)
    return _store(backend, found[0], job)


def _new(name: str, plan: Plan, workspace: Any) -> Job:
    return Job(
        id=uuid7(),
        name=name,
        task_path=plan.tasks[0],
        state=State.READY,
        args=[],
        kwargs={},
        plan=plan.stored(),
        # What the hook does to it is not done to what the caller holds.
        workspace=json.loads(_workspace(name, workspace)),
        **dict.fromkeys(("attempts", "crashes"), 0),
    )


def _plan(name: Any) -> Plan:
    try:
        found = conf_jobs.plan(name) if isinstance(name, str) else None
    except ConfigurationError as error:
        raise EnqueueError(f"{error}. Nothing was stored.") from error
    if found is None:
        known = conf_jobs.names()
        near = get_close_matches(str(name), known, 1)
        advice = f"Did you mean {near[0]!r}?" if near else f"It has {quoted(known)}."
        raise EnqueueError(
            f"The setting JOBS has no {name!r}, so nothing was stored. {advice}"
        )
    return found


def _import_hook(name: str, path: str) -> Any:
    try:
        return import_string(path)
    except BaseException as error:
        # Importing runs the user's module, so anything may be raised here.
        raise RefusedTask(
            f'JOBS["{name}"]: the hook {path!r} leads nowhere: {error}. Nothing was '
            "stored."
        ) from error


def _call_creation_hook(hook: Any, job: Job) -> None:
    try:
        hook(job)
    except Exception as error:
        raise EnqueueError(
            f"A job {job.name!r} was not created: its creation hook raised "
            f"{type(error).__name__}: {error}. Nothing was stored."
        ) from error


def _workspace(name: str, workspace: Any) -> str:
    try:
        return steps.dump_workspace(workspace)
    except TypeError as error:
        raise InvalidArguments(
            f"A job {name!r} was not created: {error} Nothing was stored."
        ) from error


def _store(backend: WindlassBackend, found: Any, job: Job) -> Job:
    said = {name: getattr(job, name) for name in ("queue_name", "priority")}
    said |= {"backend": job.backend_alias, "run_after": as_moment(job.run_after)}
    task = task_of(found, said)
    backend.validate_task(task)
    share = share_of(task, [job], {})
    carried = {"share": share} if share else {}
    new = NewJob(
        id=str(job.id),
        backend_alias=job.backend_alias,
        queue_name=task.queue_name,
        nice=-task.priority,
        task_path=job.task_path,
        args="[]",
        kwargs="{}",
        max_attempts=task.max_attempts or backend.configuration.max_attempts,
        run_after=task.run_after,
        policy=steps.policy(task, job, 0, now=time.time(), carried=carried),
        share=share or "",
        name=job.name,
        plan=json.dumps(job.plan),
        workspace=_workspace(job.name, job.workspace),
    )
    return _enqueue(backend, task, job, new)


def _enqueue(backend: WindlassBackend, task: Any, job: Job, new: NewJob) -> Job:
    rule = getattr(task.func, UNIQUE, None)
    key = rule and key_of(rule, task, [job], {})
    jobs = Job.objects.using(backend.database)
    if rule and key:
        result = backend.enqueue_unique(new, key, rule.on_conflict)
        return jobs.get(pk=result.id)
    with transaction.atomic(using=backend.database):
        (enqueued_at,) = backend.store([new])
        stored = jobs.get(pk=new.id)
    if heard(task_enqueued):
        result = results.of_new(task, new, [], {}, enqueued_at)
        task_enqueued.send_robust(sender=type(backend), task_result=result)
    return stored
