"""
The backend: what ``start()`` and ``cancel()`` of a process come to on Celery.

A start is one transaction with its note of who will run it, and its message is sent at
the commit. A cancel is noted in the row first, where the run cannot overtake it; the
worker is told at once by a broadcast, and sees it soon where that is lost.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from celery import current_app
from django.apps import apps
from django.core.checks import CheckMessage, Error, Warning
from django.db import models, router, transaction
from django.db.models import Q

from windlass.contrib.celery import sending, watching
from windlass.contrib.celery.sending import BrokerAway
from windlass.contrib.celery.tokens import CANCELLED, Token
from windlass.processes import conf, moves, sinks
from windlass.processes.lines import SYSTEM, line
from windlass.processes.settling import process_models

if TYPE_CHECKING:
    from windlass.processes.models import BaseProcess

logger = logging.getLogger("windlass")

# Seconds that are left to a worker after the ladder before somebody else kills.
SLACK = 10.0
__all__ = ["BrokerAway", "CeleryBackend"]
OWN_APP = "windlass.contrib.celery"


class CeleryBackend:
    """
    Sends runs to Celery's workers, or runs them here in its eager mode.

    The eager mode follows Celery's ``task_always_eager`` and ``task_eager_propagates``.
    """

    @property
    def is_transactional(self) -> bool:
        """Whether a start and its message belong together: not in the eager mode."""
        return not current_app.conf.task_always_eager

    # Whoever sees the code die says that it has.
    ends_later = is_transactional
    # EXECUTOR is for the workers.
    has_executors = True

    def dispatch(self, process: BaseProcess) -> tuple[str, str]:
        """Send a run at the commit; BrokerAway then, and the start is taken back."""
        task_id, watchdog_id = str(uuid.uuid4()), str(uuid.uuid4())
        if current_app.conf.task_always_eager:
            raised = () if current_app.conf.task_eager_propagates else (Exception,)
            with suppress(*raised):
                process.execute()
            return task_id, ""
        database = process._windlass_database()
        transaction.on_commit(partial(_send, process), using=database)
        return task_id, watchdog_id

    def kill(self, task_id: str) -> None:
        """Have what a task runs ended; one that waits is not run, as its row says."""
        process = _running(task_id)
        if process is None:
            return
        if Token.read(process.run_token) is None:
            # Executed in some thread, where nobody can end it nor wait for its end.
            holds = moves.holds(process.run_token)
            moves.end(process, holds, moves.CANCELLED)
            return
        token = process.run_token.removesuffix(CANCELLED)
        moves.update(process, moves.holds(token), run_token=f"{token}{CANCELLED}")
        sending.at_commit(partial(_tell, process, token))

    def revoke_scheduled(self, task_id: str) -> None:
        """Have workers forget a watchdog; one that comes all the same does nothing."""

        def revoke() -> None:
            # A watchdog that nobody could be told of finds nothing to do.
            with suppress(BrokerAway):
                sending.broadcast("revoke", {"task_id": task_id})

        sending.at_commit(revoke)

    def settle(self, process: BaseProcess) -> bool:
        """End a process that ran on this host, if all of it is dead."""
        return watching.settle(process)

    def check(self) -> Iterator[CheckMessage]:
        """Find what keeps messages from being sent, or from being heard."""
        options, queues = conf.options(), current_app.amqp.queues
        if not apps.is_installed(OWN_APP):
            yield _error("E001", f'"{OWN_APP}" is not in INSTALLED_APPS.', "Add it.")
        if current_app.conf.task_always_eager:
            return
        if not current_app.conf.broker_write_url:
            yield _error(
                "E002",
                "Celery knows no broker, so no process can be started.",
                "Set broker_url, and import the project's Celery app in the "
                "__init__.py of the project, as Celery's documentation says.",
            )
        elif (why := _unusable_broker()) is not None:
            yield _error(
                "E002",
                f"Celery cannot use its broker, so no process can be started: {why}.",
                "Correct broker_url; for Redis install celery[redis].",
            )
        for name in ("queue", "supervisor_queue"):
            queue = getattr(options, name)
            if queue not in queues and not current_app.conf.task_create_missing_queues:
                yield _error(
                    "E003",
                    f'{conf.SETTING}["{name.upper()}"] is "{queue}", which is not in '
                    "task_queues of the Celery app.",
                    "Add it there, or set task_create_missing_queues.",
                )
        if options.queue == options.supervisor_queue:
            yield Warning(
                f'Runs and those who watch them wait in one queue, "{options.queue}".',
                hint=f'Give {conf.SETTING}["SUPERVISOR_QUEUE"] a worker of its own.',
                obj=conf.SETTING,
                id="windlass.celery.W001",
            )


def _unusable_broker() -> str | None:
    try:
        # It does not connect.
        current_app.connection_for_write()
    except (ImportError, LookupError, ValueError) as error:
        return str(error)
    return None


def _error(number: str, said: str, hint: str) -> Error:
    return Error(said, hint=hint, obj=conf.SETTING, id=f"windlass.celery.{number}")


def _send(process: BaseProcess) -> None:
    try:
        sending.send_run(process)
    except Exception as error:
        # Whatever it is: a transport that lacks a package, a router of the project.
        if moves.unqueue(process, process.celery_task_id):
            said = line(str(error), level="error", stream=SYSTEM)
            sinks.sink_of(process).log(said)
        raise


def _running(task_id: str) -> BaseProcess | None:
    for model in process_models():
        rows: Any = models.QuerySet(model, using=router.db_for_write(model))
        found: BaseProcess | None = rows.filter(
            Q(status=moves.RUNNING, celery_task_id=task_id)
        ).first()
        if found is not None:
            return found
    return None


def _tell(process: BaseProcess, token: str) -> None:
    try:
        sending.broadcast("windlass_end", {"task_id": process.celery_task_id})
        # By another id than the one that is revoked.
        process.watchdog_task_id = ""
        delay = sending.ladder_seconds() + SLACK
        sending.send_watchdog(process, token, delay=delay, is_late=True)
    except BrokerAway as error:
        logger.warning("%s: its cancel is seen later. %s", process, error)
