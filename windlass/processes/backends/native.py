"""The runtime of Windlass runs processes: one job each, in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from django.core.checks import CheckMessage, Error

from windlass import api
from windlass import conf as engine
from windlass.models import Job
from windlass.processes import conf

if TYPE_CHECKING:
    from windlass.processes.models import BaseProcess


class NativeBackend:
    """
    Enqueues a job in the caller's transaction.

    The worker that runs it is the watchdog too, so there is no task that watches.
    """

    # The start and the job are one commit; whoever sees the code die says that it has.
    is_transactional = ends_later = True
    # EXECUTOR is for its workers.
    has_executors = True

    def dispatch(self, process: BaseProcess) -> tuple[str, str]:
        """Enqueue the job; EnqueueError if its queue is not allowed."""
        from windlass.processes.tasks import run_process

        options = conf.options()
        task = replace(
            run_process,
            backend=options.tasks_alias,
            queue_name=options.queue,
            timeout=process.timeout,
            max_attempts=process.max_attempts,
        )
        place = (process._meta.label, str(process.pk), process._windlass_database())
        result = task.enqueue(*place, process.run_number)
        return str(result.id), ""

    def check(self) -> Iterator[CheckMessage]:
        """Find what keeps the jobs from being enqueued."""
        options = conf.options()
        alias = options.tasks_alias
        if alias not in engine.aliases():
            yield Error(
                f"Processes run by the backend {alias!r} of TASKS, and there is none "
                "of Windlass.",
                hint=f'Add it, or set {conf.SETTING}["TASKS_ALIAS"] or ["BACKEND"].',
                obj=conf.SETTING,
                id="windlass.processes.E002",
            )
            return
        queues = engine.options(alias).queues
        if queues and options.queue not in queues:
            yield Error(
                f'Processes run on the queue "{options.queue}", which QUEUES of '
                f'TASKS["{alias}"] does not have, so none can be started.',
                hint=f'Add "{options.queue}" to QUEUES, or set QUEUES to [] for all.',
                obj=conf.SETTING,
                id="windlass.processes.E003",
            )

    def settle(self, process: BaseProcess) -> bool:
        """Move a process to where its job is, if that has ended or waits again."""
        from windlass.processes import settling

        return settling.settle(process)

    def kill(self, task_id: str) -> None:
        """Ask for the end of the job; its worker climbs the ladder."""
        with suppress(Job.DoesNotExist):
            api.cancel_job(task_id, backend_alias=conf.options().tasks_alias)

    def revoke_scheduled(self, task_id: str) -> None:
        """Do nothing: no watchdog waits anywhere."""
