"""
Storing a run: its row, its members and edges, and all of its jobs at once.

In the caller's transaction. What waits for nothing is stored ready, the rest blocked,
so a job exists, under the id it keeps, from the moment the run does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from windlass import db
from windlass.backend import NOTIFYING, WindlassBackend
from windlass.db import Dialect, NewJob
from windlass.exceptions import EnqueueError, RefusedTask
from windlass.jobs import holding, lifecycle, results, unique
from windlass.jobs.ids import uuid7
from windlass.jobs.keys import UNIQUE, key_of
from windlass.jobs.policies import read
from windlass.jobs.resolving import put
from windlass.jobs.retries import seconds
from windlass.jobs.wakeups import wakeups
from windlass.signals import heard
from windlass.tasks_api import DEFAULT_TASK_BACKEND_ALIAS as DEFAULT
from windlass.tasks_api import task_backends, task_enqueued
from windlass.workflows.building import Workflow
from windlass.workflows.engine import Advance
from windlass.workflows.models import (
    WorkflowEdge,
    WorkflowMember,
    WorkflowRun,
    WorkflowSpace,
)
from windlass.workflows.plans import Plan, Planned
from windlass.workflows.rows import HOLD

BATCH = 1000
Jobs = dict[Planned, NewJob]


def store(flow: Workflow) -> WorkflowRun:
    """Store a run of a workflow; see ``Workflow.enqueue``."""
    plan = Plan(flow)
    backend = _backend(flow, plan)
    run = WorkflowRun(id=UUID(uuid7()), name=flow.name, backend_alias=backend.alias)
    jobs = {
        planned: _job(backend, planned, run) for planned in plan.members if planned.call
    }
    own = db.dialect(backend.database)
    with transaction.atomic(using=own.database):
        run.created_at = own.now()
        run.save(force_insert=True, using=own.database)
        WorkflowSpace.objects.using(own.database).create(
            run=run.pk, data=plan.workspace
        )
        _store_graph(own, run, plan, jobs)
        times = _store_jobs(own, backend, jobs)
        advance = Advance(own, {run.pk: run})
        advance.consider([m.id for m in plan.members if not m.waits_for and not m.call])
        advance.settle_ended([m.id for m in jobs if _is_unique(m)])
        advance.finish()
    _announce(backend, jobs, times)
    return run


def _backend(flow: Workflow, plan: Plan) -> WindlassBackend:
    tasks = [planned.call[0] for planned in plan.members if planned.call]
    aliases = sorted({task.backend for task in tasks}) or [DEFAULT]
    if len(aliases) > 1:
        raise EnqueueError(
            f"{flow.name}: its tasks belong to several backends, {', '.join(aliases)}, "
            "and a run has one. Nothing was stored."
        )
    backend = task_backends[aliases[0]]
    if not isinstance(backend, WindlassBackend):
        raise EnqueueError(
            f"{flow.name}: workflows need a backend of Windlass, and {aliases[0]!r} is "
            f"a {type(backend).__qualname__}. Nothing was stored."
        )
    return backend


def _job(backend: WindlassBackend, planned: Planned, run: WorkflowRun) -> NewJob:
    assert planned.call is not None
    task = planned.call[0]
    if planned.takes and _is_unique(planned):
        raise RefusedTask(
            f"{task.module_path} is unique, and its key is made when the run is "
            "enqueued; so it cannot be given the result of another member. Nothing was "
            "stored."
        )
    job = backend.new_job(planned.call, planned.id)
    # The keys of one that takes results are made from the call as it will be.
    job = job._replace(share="") if planned.takes else backend.keyed(job, planned.call)
    policy = {**(read(job.policy) if job.policy else {}), HOLD: str(run.pk)}
    return job._replace(policy=json.dumps(policy))


def _is_unique(planned: Planned) -> bool:
    return planned.call is not None and hasattr(planned.call[0].func, UNIQUE)


def _store_graph(
    own: Dialect, run: WorkflowRun, plan: Plan, jobs: Mapping[Planned, NewJob]
) -> None:
    members = WorkflowMember.objects.using(own.database)
    members.bulk_create(
        [
            _member(run, number, planned, jobs.get(planned))
            for number, planned in enumerate(plan.members)
        ],
        batch_size=BATCH,
    )
    WorkflowEdge.objects.using(own.database).bulk_create(
        [
            WorkflowEdge(run=run.pk, parent=parent.id, child=planned.id, when=when)
            for planned in plan.members
            for parent, when in planned.waits_for
        ],
        batch_size=BATCH,
    )


def _member(
    run: WorkflowRun, number: int, planned: Planned, job: NewJob | None
) -> WorkflowMember:
    return WorkflowMember(
        id=planned.id,
        run=run,
        number=number,
        name=planned.name,
        kind=planned.kind,
        task_path=job.task_path if job else "",
        scope=planned.scope,
        policy=planned.policy,
        is_callback=planned.is_callback,
        is_forgiven=planned.is_forgiven,
        is_wanted=planned.is_wanted,
        plan=_plan(planned, job) if job else None,
        is_let_go=bool(job) and not planned.waits_for,
    )


def _plan(planned: Planned, job: NewJob) -> dict[str, Any] | None:
    """What its call has of its own once its turn has come; None if nothing."""
    task = planned.call[0] if planned.call else None
    expires = getattr(task, "expires", None)
    if not planned.waits_for or not (planned.takes or job.run_after or expires):
        return None
    return {
        "takes": [[path, source.id, kind] for path, source, kind in planned.takes],
        "args": json.loads(job.args),
        "kwargs": json.loads(job.kwargs),
        "due": job.run_after.isoformat() if job.run_after else None,
        "expires": None if expires is None else seconds(expires, "expires"),
    }


def _store_jobs(
    own: Dialect, backend: WindlassBackend, jobs: Jobs
) -> dict[str, datetime]:
    """Store the jobs, and tell when each was enqueued."""
    notify = backend.configuration.wakeup in NOTIFYING
    plain = [(m, job) for m, job in jobs.items() if not _is_unique(m)]
    ready = [job for m, job in plain if not m.waits_for]
    blocked = [job for m, job in plain if m.waits_for]
    times: dict[str, datetime] = {}
    for planned, job in jobs.items():
        if _is_unique(planned):
            _store_unique(own, planned, job, notify=notify)
            times[job.id] = own.now()
    if ready:
        moments = lifecycle.enqueue(own, ready, notify=notify)
        times |= {job.id: at for job, at in zip(ready, moments, strict=True)}
    if blocked:
        at = holding.enqueue_blocked(own, blocked, HOLD)
        times |= {job.id: at for job in blocked}
    return times


def _store_unique(own: Dialect, planned: Planned, job: NewJob, *, notify: bool) -> None:
    assert planned.call is not None
    task, args, kwargs = planned.call
    rule = getattr(task.func, UNIQUE)
    key = key_of(rule, task, args, kwargs)
    if key is None:
        lifecycle.enqueue(own, [job], notify=notify)
    else:
        # The job of somebody else is no member of this run.
        is_shared = rule.on_conflict == "return_existing"
        on_conflict = "raise" if is_shared else rule.on_conflict
        unique.enqueue(own, job, key, on_conflict, notify=notify)
    if planned.waits_for:
        lifecycle.block(own, [job.id], HOLD)


def _announce(
    backend: WindlassBackend, jobs: Jobs, times: Mapping[str, datetime]
) -> None:
    ready = [job for planned, job in jobs.items() if not planned.waits_for]
    own = backend.configuration
    wakeups(own).announce(ready, db.dialect(own.database_alias))
    if not heard(task_enqueued):
        return
    for planned, job in jobs.items():
        assert planned.call is not None
        task, args, kwargs = planned.call
        result = results.of_new(task, job, args, kwargs, times[job.id])
        if planned.waits_for:
            put(result, "state", "blocked")
        task_enqueued.send_robust(sender=type(backend), task_result=result)
