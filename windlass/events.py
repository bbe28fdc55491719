"""
Sending events to jobs that wait for them with ``context.wait_for``.

An event is stored in the caller's transaction, whether its job waits already or not.
A job that waits is made ready in that transaction. One that runs may be about to wait:
it has looked, and what it does next is recorded a moment later. So once the event is
committed, the sender looks again; and the one who puts the job back looks for an event
after that. Whoever comes second sees the other.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from django.db import transaction

from windlass import conf, db
from windlass.db import Dialect, channel, memos
from windlass.exceptions import StaleJob
from windlass.jobs import lifecycle
from windlass.jobs.arguments import dump_value
from windlass.jobs.recall import NAME_LENGTH, is_name
from windlass.jobs.wakeups import wakeups
from windlass.models import Job, State
from windlass.models.view import parse_id
from windlass.tasks_api import DEFAULT_TASK_BACKEND_ALIAS as DEFAULT
from windlass.twins import twin


def send_event(
    id: object,
    name: str,
    payload: Any = None,
    *,
    event_id: str | None = None,
    backend_alias: str = DEFAULT,
) -> bool:
    """
    Say something to a job: its ``context.wait_for(name)`` gives back the payload.

    It is stored in the caller's transaction and kept until the job takes it, whether
    the job waits already or not; with the commit a job that waits for this name goes
    on. Each event is taken once, the first first. With an ``event_id``, an event whose
    id was sent to the job before is not stored again: gives back False then.

    Raises Job.DoesNotExist for an unknown id, StaleJob if the job has succeeded, and
    TypeError or ValueError for a payload that JSON cannot hold, or for no name.
    """
    _check("name", name)
    if event_id is not None:
        _check("event_id", event_id)
    value = json.loads(dump_value(payload, "the payload"))
    dialect = db.dialect(conf.options(backend_alias).database_alias)
    job = _job(dialect, id, name, backend_alias)
    with transaction.atomic(using=dialect.database):
        if not memos.store_event(dialect, str(job.pk), name, value, event_id):
            return False
        # Not a job that runs: the caller's transaction may be long, and the job's
        # worker would have to wait for the row.
        if job.state != State.SCHEDULED or not _wake(dialect, job, name):
            later = partial(_wake_later, dialect, job, name)
            transaction.on_commit(later, using=dialect.database, robust=True)
    return True


def _check(what: str, text: object) -> None:
    if not is_name(text):
        raise ValueError(
            f"{what} must be a text of 1 to {NAME_LENGTH} characters, not {text!r}."
        )


def _job(dialect: Dialect, id: object, name: str, backend_alias: str) -> Job:
    key = parse_id(id)
    jobs = Job.objects.using(dialect.database).filter(backend_alias=backend_alias)
    job = jobs.filter(pk=key).first() if key else None
    if job is None:
        raise Job.DoesNotExist(f"The backend {backend_alias!r} has no job {id!r}.")
    if job.state == State.SUCCEEDED:
        raise StaleJob(
            f"Job {job.pk} has succeeded, so the event {name!r} was not stored: "
            "nobody will wait for it."
        )
    return job


def _wake(dialect: Dialect, job: Job, name: str) -> bool:
    """Make a job ready if it waits for an event of this name."""
    id = str(job.pk)
    if not memos.waits_for(dialect, id, name):
        return False
    if not lifecycle.hasten(dialect, [id]):
        return False
    options = conf.options(job.backend_alias)
    wakeups(options).tell(channel(options.alias), job.queue_name, dialect)
    return True


def _wake_later(dialect: Dialect, job: Job, name: str) -> None:
    with transaction.atomic(using=dialect.database):
        memos.settle(dialect, str(job.pk))
        _wake(dialect, job, name)


asend_event = twin(send_event)
