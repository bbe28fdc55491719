"""
The tasks: one runs an attempt, one looks at it, one looks at all.

Each is acknowledged before it begins. A broker that waits for the acknowledgement of a
run of hours sends it again (Redis), or closes the connection (RabbitMQ); what a dead
worker had is found by its watchdog.
"""

from __future__ import annotations

from typing import Any

from celery import shared_task

OPTIONS: dict[str, Any] = {
    "acks_late": False,
    "ignore_result": True,
    "serializer": "json",
    "max_retries": 5,
}


@shared_task(**OPTIONS)
def run(
    label: str,
    pk: str,
    database: str,
    number: int,
    attempt: int,
    after: int,
    not_before: float = 0,
) -> None:
    """Run an attempt of a start, if so many attempts came before it as it says."""
    from windlass.contrib.celery.supervising import supervise
    from windlass.processes.tasks import load

    process = load(label, pk, database)
    if process is not None and process.run_number == number:
        supervise(process, attempt, after, not_before=not_before)


@shared_task(bind=True, **OPTIONS)
def watchdog(
    self: Any,
    label: str,
    pk: str,
    database: str,
    number: int,
    token: str,
    **said: Any,
) -> None:
    """Look at an attempt of a start; whatever keeps it from that, at once again."""
    from windlass.contrib.celery.watching import watch
    from windlass.processes.tasks import load

    try:
        process = load(label, pk, database)
        if process is not None and process.run_number == number:
            watch(process, token, **said)
    except Exception as error:
        raise self.retry(exc=error, countdown=1) from error


@shared_task(**OPTIONS)
def sweep() -> None:
    """Look at every process that seems to be forgotten."""
    from windlass.contrib.celery import watching

    watching.sweep()
