"""The runtime of Windlass runs processes: one job each, in a process of its own."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from windlass import api
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

    def kill(self, task_id: str) -> None:
        """Ask for the end of the job; its worker climbs the ladder."""
        with suppress(Job.DoesNotExist):
            api.cancel_job(task_id, backend_alias=conf.options().tasks_alias)

    def revoke_scheduled(self, task_id: str) -> None:
        """Do nothing: no watchdog waits anywhere."""
