"""
Bringing ends to processes whose worker could not: its host died, say.

A job that was rescued or cancelled by somebody else is told by a signal at once. A
sweep finds the rest: processes whose job has ended, or is gone.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import DatabaseError, InterfaceError, connections, models, router
from django.db.models import Q
from django.utils import timezone
from django.utils.connection import ConnectionDoesNotExist

from windlass import conf as engine
from windlass.conf import Options
from windlass.models import EndedJob, LiveJob
from windlass.models.jobs import Reason
from windlass.processes import conf, listening, moves
from windlass.processes.attending import TASK
from windlass.processes.backends.native import NativeBackend
from windlass.processes.sandbox import bundles
from windlass.runtime.service import offered
from windlass.signals import job_cancelled, job_rescued

if TYPE_CHECKING:
    from windlass.processes.models import BaseProcess

logger = logging.getLogger("windlass")

EVERY, SWEEP_EVERY = 5.0, 60.0
BATCH = 500
# A job may be younger than the start that it belongs to, on another database.
GONE_AFTER = timedelta(minutes=1)
STATUS = {
    "succeeded": moves.SUCCEEDED,
    "failed": moves.FAILED,
    "cancelled": moves.CANCELLED,
    "discarded": moves.CANCELLED,
}


def settle_what_ends() -> None:
    """Listen for jobs that end by somebody else's word, and offer the sweep."""
    for signal in (job_rescued, job_cancelled):
        signal.connect(_told, dispatch_uid="windlass.processes")
    offered["processes"] = Sweep


def _told(*, task_result: Any, **kwargs: Any) -> None:
    if task_result.task.module_path != TASK:
        return
    label, pk, database, _run = task_result.args
    model: Any = apps.get_model(label)
    process = model._base_manager.using(database).filter(pk=pk).first()
    if process is not None and process.celery_task_id == str(task_result.id):
        settle(process)


def settle(process: BaseProcess) -> bool:
    """Move a process to where its job is, if that has ended or waits again."""
    return any(_settle([process]))


def _settle(processes: Iterable[BaseProcess]) -> Iterator[bool]:
    if not isinstance(conf.backend(), NativeBackend):
        return
    database = engine.options(conf.options().tasks_alias).database_alias
    found = [(_id(each.celery_task_id), each) for each in processes]
    by_job = {id: each for id, each in found if id is not None}
    live = {
        row.id: row
        for row in LiveJob.objects.using(database).filter(id__in=list(by_job))
    }
    left = [id for id in by_job if id not in live]
    ended = {
        row.id: row for row in EndedJob.objects.using(database).filter(id__in=left)
    }
    for id, process in by_job.items():
        if id in live:
            yield _put_back(process, live[id])
        else:
            yield _end(process, ended.get(id))


def _id(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _put_back(process: BaseProcess, job: LiveJob) -> bool:
    """What runs no more and will run again is pending."""
    is_held = job.node is not None
    if is_held or process.status != moves.RUNNING:
        return False
    guard = moves.holds(process.run_token)
    return moves.end(process, guard, moves.PENDING, error=_why(job))


def _end(process: BaseProcess, job: EndedJob | None) -> bool:
    guard = ~Q(status__in=moves.ENDS) & Q(
        run_number=process.run_number, celery_task_id=process.celery_task_id
    )
    if job is None:
        if process.queued is None or process.queued > timezone.now() - GONE_AFTER:
            return False
        return moves.end(process, guard, moves.FAILED, error="Its job is gone.")
    status = STATUS[job.state]
    if job.state == "failed" and job.reason == Reason.TIMEOUT:
        status = moves.TIMED_OUT
        return moves.end(process, guard, status, error=moves.too_long(process))
    text = "" if status == moves.SUCCEEDED else _why(job)
    return moves.end(process, guard, status, error=text)


def _why(job: LiveJob | EndedJob) -> str:
    return moves.last_line((job.history or [{}])[-1].get("traceback", ""))


class Sweep:
    """Settles what nobody else has, now and then."""

    name = "processes"

    def __init__(self, options: Options) -> None:
        self.options = options
        self._sweep_at = 0.0
        self._refused: set[type[BaseProcess]] = set()
        # The last of each model that was looked at, until all have been.
        self._after: dict[type[BaseProcess], Any] = {}

    def tick(self) -> float:
        """Look at what has not ended; give back the seconds until the next look."""
        if conf.options().tasks_alias == self.options.alias:
            for model in process_models():
                self._look_at(model)
        if time.monotonic() >= self._sweep_at:
            self._sweep_at = time.monotonic() + SWEEP_EVERY
            listening.sweep(now=time.time())
            bundles.sweep(conf.options())
        return EVERY

    def _look_at(self, model: type[BaseProcess]) -> None:
        database = router.db_for_write(model)
        try:
            found = _unfinished(model, database, self._after.get(model))
            self._after[model] = found[-1].pk if len(found) == BATCH else None
            for _moved in _settle(found):
                pass
            self._refused.discard(model)
        except Exception as error:
            # It may lack its migrations, or be on a database that is away, or that
            # nobody knows. The others are looked at all the same.
            with suppress(ConnectionDoesNotExist):
                connections[database].close_if_unusable_or_obsolete()
            if model not in self._refused:
                self._refused.add(model)
                label = model._meta.label
                known = isinstance(error, DatabaseError | InterfaceError)
                logger.warning(
                    "Ends of %s cannot be looked for: %s",
                    label,
                    error,
                    exc_info=None if known else error,
                )

    def database_returned(self) -> None:
        """Nothing is remembered from before."""


def process_models() -> list[type[BaseProcess]]:
    """The models whose own table has a status."""
    from windlass.processes.models import BaseProcess

    return [
        model
        for model in apps.get_models()
        if issubclass(model, BaseProcess)
        and model._meta.get_field("status").model is model
        and not model._meta.proxy
    ]


def _unfinished(model: Any, database: str, after: Any) -> list[BaseProcess]:
    rows: Any = models.QuerySet(model, using=database)
    waiting = rows.filter(status__in=(moves.PENDING, moves.RUNNING))
    if after is not None:
        waiting = waiting.filter(pk__gt=after)
    return list(waiting.exclude(celery_task_id="").order_by("pk")[:BATCH])
