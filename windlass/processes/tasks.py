"""The one task that runs every process, in an operating-system process of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from django.apps import apps
from django.db import InterfaceError, OperationalError, connections
from django.db.models import Q
from django.utils import timezone

from windlass.conf_tasks import aliases
from windlass.exceptions import RefusedTask
from windlass.jobs.retries import Snooze
from windlass.processes import (
    capture,
    conf,
    execution,
    interpreter,
    limiting,
    moves,
    sinks,
)
from windlass.processes.link import Link, name_of
from windlass.processes.listening import path_of
from windlass.processes.models import BaseProcess
from windlass.processes.sandbox import bundles, launching
from windlass.runtime.hygiene import tidy_connections
from windlass.task import task

# A start on another database may be committed so much later than its job.
COMMITS_WITHIN = timedelta(hours=1)
# Seconds until another look for a database that is away, or has no connection left.
AWAY = 2


def load(label: str, pk: str, database: str) -> BaseProcess | None:
    """A process by the name of its model and its key; RefusedTask for no such model."""
    try:
        model = apps.get_model(label)
    except LookupError as error:
        raise RefusedTask(f"There is no model {label!r} to run: {error}") from error
    if not issubclass(model, BaseProcess):
        raise RefusedTask(f"{label} is not a BaseProcess, so it was not run.")
    key = model._meta.pk.to_python(pk)
    return model._base_manager.using(database).filter(pk=key).first()


def _as_task(function: Any) -> Any:
    alias = conf.options().tasks_alias
    # Under another backend no entry of TASKS need be ours, and this is imported all the
    # same: by the interpreters of runs, and by Celery, which imports each app's tasks.
    if alias not in aliases():
        return function
    return task(backend=alias, takes_context=True, executor="process")(function)


@_as_task
def run_process(context: Any, label: str, pk: str, database: str, run: int) -> None:
    """Run one process: the start with that number, and no other."""
    token = token_of(context.job)
    try:
        process = _begun(context, token, label, pk, database, run)
    except (OperationalError, InterfaceError) as error:
        # Nothing has run, so no attempt is used up. What was begun all the same, and
        # not heard of, the next attempt takes over.
        raise Snooze(AWAY) from error
    if process is None:
        return
    attempt = partial(
        execution.run,
        process,
        token,
        may_repeat=context.attempt < process.max_attempts,
        is_told=context.should_stop,
    )
    link = Link(path_of(context.job.id, context.job.claim), name_of(process))
    try:
        link.connect()
    except OSError:
        # A test or a script executes the job, in its own process.
        with sinks.local(process) as sink:
            capture.hear_records()
            is_alone = conf.options().executor == "sandbox"
            attempt(sink, body=_refuse if is_alone else None)
    else:
        run_alone(process, link, attempt)


def _begun(
    context: Any, token: str, label: str, pk: str, database: str, run: int
) -> BaseProcess | None:
    process = load(label, pk, database)
    if process is None or process.run_number < run:
        since = timezone.now() - context.task_result.enqueued_at
        if database == context.database or since > COMMITS_WITHIN:
            return None
        raise Snooze(1)
    # Also from an attempt that came to no end. Else it is cancelled, or started again,
    # or executed by somebody else.
    guard = Q(status__in=(moves.PENDING, moves.RUNNING), run_number=run)
    return process if moves.begin(process, token, guard=guard) else None


def token_of(job: Any) -> str:
    """What an attempt of a job is called in the moves of its process."""
    return f"{job.id}/{job.claim}"


def _refuse() -> None:
    # Whoever wants a sandbox would rather have nothing than this.
    raise RefusedTask(
        "Processes run in a sandbox, and there is none here: only a worker makes one. "
        "run() was not called."
    )


def run_alone(process: BaseProcess, link: Link, attempt: Any) -> None:
    """Run an attempt in this operating-system process, which is for it alone."""
    options = conf.options()
    sinks.own(process, link)
    os.environ.update(link.environment())
    capture.hear_everything(link, output=options.capture_output)
    try:
        if options.executor == "spawn":
            attempt(link, body=partial(_elsewhere, interpreter.run, process))
        elif options.executor == "sandbox":
            name = bundles.name_of(link.path)
            moves.update(process, moves.holds(process.run_token), sandbox_id=name)
            attempt(link, body=partial(_elsewhere, launching.run, process, name))
        else:
            attempt(link, body=partial(_run_and_tidy, process))
    finally:
        capture.flush_output()


def _elsewhere(run: Callable[..., None], *given: Any) -> None:
    connections.close_all()
    run(*given)


def _run_and_tidy(process: BaseProcess) -> None:
    # It may run for hours, and never ask.
    connections.close_all()
    try:
        with limiting.within(conf.options()):
            process.run()
    finally:
        # What comes now needs a connection, whatever the code has done to it.
        tidy_connections()
