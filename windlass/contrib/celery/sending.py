"""
The messages: which there are, to which queue each goes, and what if no broker is there.

A message names a start and an attempt, so one that comes late, or twice, as brokers
send them again after their visibility timeout, finds that it is not meant any more.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from celery import current_app
from django.db import connections, router, transaction
from kombu.exceptions import OperationalError

from windlass.exceptions import WindlassError
from windlass.processes import conf
from windlass.processes.settling import process_models

if TYPE_CHECKING:
    from windlass.processes.models import BaseProcess

logger = logging.getLogger("windlass")

# Seconds that a pool's process may need for a run beyond its timeout and the ladder:
# until the last lines are stored, say, in a database that is away.
TO_THE_END = 300.0
# Seconds between two looks at a run, and between two sweeps.
LOOK_EVERY, SWEEP_EVERY = 60.0, 60.0
# A message that waits in a worker for longer is given up, or given to another as well,
# by brokers with their timeouts. So a longer delay consists of several.
LONGEST_WAIT = 600.0
# From a worker's loop, which must not wait for a broker that is away. It may find its
# connection spoilt by a copy of it in a process of the pool, and needs another then.
FROM_LOOP = {"retry_policy": {"max_retries": 1, "interval_start": 0}}


class BrokerAway(WindlassError):
    """Celery's broker took no message, so what was asked for was not done."""


def place(process: BaseProcess) -> tuple[str, str, str]:
    """How a message names a process."""
    return process._meta.label, str(process.pk), process._windlass_database()


def send_run(process: BaseProcess, *, attempt: int = 1, delay: float = 0) -> None:
    """Have the process run, as that attempt of this start; BrokerAway if it cannot."""
    from windlass.contrib.celery.tasks import run

    limit = process.timeout_seconds() + ladder_seconds() + TO_THE_END
    not_before = time.time() + delay if delay > LONGEST_WAIT else 0
    with _broker(f"{process} was not queued"):
        run.apply_async(
            (*place(process), process.run_number, attempt, process.attempts),
            {"not_before": not_before} if not_before else {},
            task_id=process.celery_task_id,
            queue=conf.options().queue,
            countdown=min(delay, LONGEST_WAIT) or None,
            # A limit of the whole worker is not for runs, each of which has its own.
            soft_time_limit=limit,
            time_limit=limit + TO_THE_END,
        )


def send_watchdog(
    process: BaseProcess, token: object, *, delay: float = LOOK_EVERY, **said: Any
) -> None:
    """Have an attempt looked at; BrokerAway if nobody can be asked."""
    from windlass.contrib.celery.tasks import watchdog

    with _broker(f"Nobody can be asked to look after {process}"):
        watchdog.apply_async(
            (*place(process), process.run_number, str(token)),
            said,
            task_id=process.watchdog_task_id or None,
            queue=conf.options().supervisor_queue,
            countdown=delay or None,
        )


def send_sweep() -> None:
    """Have everything looked at, unless that is asked again before it comes to it."""
    from windlass.contrib.celery.tasks import sweep

    try:
        with _broker("No message was sent"):
            queue = conf.options().supervisor_queue
            sweep.apply_async(queue=queue, expires=SWEEP_EVERY, **FROM_LOOP)
    except BrokerAway as error:
        logger.warning("No sweep of processes was asked for: %s", error)


def broadcast(command: str, said: dict[str, Any], **options: Any) -> Any:
    """Say something to every worker; BrokerAway if nobody can hear it."""
    with _broker(f"Workers could not be asked for {command}"):
        return current_app.control.broadcast(command, arguments=said, **options)


def ladder_seconds() -> float:
    """Seconds from the first SIGTERM to SIGKILL."""
    options = conf.options()
    return options.kill_term_retries * options.kill_term_wait_seconds


def at_commit(function: Callable[[], Any]) -> None:
    """Call a function when the transaction of any process's database commits."""
    for database in {router.db_for_write(model) for model in process_models()}:
        if connections[database].in_atomic_block:
            transaction.on_commit(function, using=database)
            return
    function()


@contextmanager
def _broker(what: str) -> Iterator[None]:
    connection = current_app.connection_for_write()
    away = (OperationalError, OSError, *connection.connection_errors)
    try:
        yield
    except away as error:
        url = connection.as_uri()
        raise BrokerAway(
            f"{what}: Celery's broker at {url} does not answer ({error}). "
            "Start it, or correct broker_url of the Celery app."
        ) from error
