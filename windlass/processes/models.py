"""
BaseProcess and BaseProcessLog: what a project subclasses, and all that users call.

Both are abstract, so the tables and their migrations are the project's. What happens
to a process is said in ``moves``, how it runs in ``execution``, its log in ``reading``
and ``writing``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

from django.core.paginator import Page
from django.db import models, router
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from windlass.processes import execution, moves, reading, sinks, starting
from windlass.processes.lines import line
from windlass.processes.log_models import BaseProcessLog
from windlass.processes.progress import Bar, said
from windlass.twins import twin

__all__ = ["BaseProcess", "BaseProcessLog"]

T = TypeVar("T")


class BaseProcess(models.Model):
    """
    A process: a row, and the operating-system process that executes its ``run()``.

    Subclass it, add fields, implement ``run()``, and declare a log model (see
    ``BaseProcessLog``). ``timeout`` counts from the start of each attempt. The columns
    that the engine owns are written by guarded updates; ``save()`` leaves them alone
    unless you have changed them on the instance.
    """

    class Status(models.TextChoices):
        """Where a process stands. The last four are ends."""

        PENDING = "pending", _("pending")
        RUNNING = "running", _("running")
        SUCCEEDED = "succeeded", _("succeeded")
        FAILED = "failed", _("failed")
        CANCELLED = "cancelled", _("cancelled")
        TIMED_OUT = "timed_out", _("timed out")

    # How often a run may be attempted; raising once is enough to fail by default.
    max_attempts = 1

    status = models.CharField(
        _("status"),
        max_length=16,
        choices=Status.choices,
        default=Status.PENDING,
        db_index=True,
    )
    timeout = models.DurationField(_("timeout"), default=timedelta(minutes=20))
    # Whoever runs it: the name is from its first home, the id is the backend's.
    celery_task_id = models.CharField(
        _("task"), max_length=255, default="", blank=True, editable=False
    )
    watchdog_task_id = models.CharField(
        _("watchdog"), max_length=255, default="", blank=True, editable=False
    )
    worker_pid = models.PositiveBigIntegerField(
        _("process id"), null=True, blank=True, editable=False
    )
    worker_host = models.CharField(
        _("host"), max_length=255, default="", blank=True, editable=False
    )
    sandbox_id = models.CharField(
        _("sandbox"), max_length=255, default="", blank=True, editable=False
    )
    error = models.TextField(_("error"), default="", blank=True, editable=False)
    created = models.DateTimeField(_("created"), auto_now_add=True)
    modified = models.DateTimeField(_("modified"), auto_now=True)
    queued = models.DateTimeField(_("queued"), null=True, blank=True, editable=False)
    started = models.DateTimeField(_("started"), null=True, blank=True, editable=False)
    finished = models.DateTimeField(
        _("finished"), null=True, blank=True, editable=False
    )
    # How often it was started, and how often its run() began.
    run_number = models.PositiveIntegerField(_("run"), default=0, editable=False)
    attempts = models.PositiveIntegerField(_("attempts"), default=0, editable=False)
    run_token = models.CharField(
        _("token"), max_length=64, default="", blank=True, editable=False
    )
    history = models.JSONField(
        _("past attempts"), default=list, blank=True, editable=False
    )
    progress_data = models.JSONField(
        _("progress"), null=True, blank=True, editable=False
    )

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{type(self).__name__} {self.pk} ({self.status})"

    def save(
        self,
        *,
        force_insert: Any = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
    ) -> None:
        """Save what is the user's; the engine's columns only if changed here."""
        if update_fields is not None:
            update_fields = list(update_fields)
        elif not (self._state.adding or force_insert):
            at_home = using in (None, self._state.db)
            update_fields = self._windlass_own_fields() if at_home else None
        super().save(
            force_insert=force_insert,
            force_update=force_update,
            using=using,
            update_fields=update_fields,
        )
        self._windlass_note(update_fields)

    # What a subclass says

    def run(self) -> Any:
        """Do the work. Implement this; an exception makes the process ``failed``."""
        raise NotImplementedError(f"{type(self).__name__} must implement run().")

    # Starting and ending

    def start(self) -> str:
        """
        Have the process run, and give back the id of the task that runs it.

        In the caller's transaction, if the backend is Windlass's own. From pending
        (once), failed and timed_out; else RuntimeError, with nothing changed.
        """
        return starting.start(self)

    def restart(self) -> str:
        """As ``start``, from every end; RuntimeError while it waits or runs."""
        return starting.start(self, restart=True)

    def cancel(self) -> None:
        """
        Cancel a process that waits or runs; RuntimeError if it has ended.

        It returns at once. One that waits is cancelled then; one that runs when its
        code is dead, for which ``wait()`` waits.
        """
        starting.cancel(self)

    def execute(self) -> None:
        """
        Run the process in the calling thread, and move its status as a worker would.

        The timeout is not enforced. An exception of ``run()`` is raised. Does nothing
        if it is cancelled; RuntimeError if it runs or has ended.
        """
        execution.execute(self)

    def wait(self, timeout: float | None = None) -> str | None:
        """
        Wait for the end, and give back the status; None when ``timeout`` is over.

        In seconds, None waits for ever. Inside of a transaction that has not committed
        the start, nobody can run it.
        """
        return starting.wait(self, timeout)

    def timeout_seconds(self) -> float:
        """Seconds that an attempt may run."""
        return self.timeout.total_seconds()

    # The log

    def log(self, message: object, *, level: str = "info") -> None:
        """Add a line to the log; ValueError for an unknown level."""
        sinks.sink_of(self).log(line(message, level=level))

    def progress(
        self, current: float, total: float | None = None, message: str = ""
    ) -> None:
        """Say how far the run has come; cheap, and stored a few times a second."""
        sinks.sink_of(self).progress(said(self, current, total, message))

    def track(self, iterable: Iterable[T] | None = None, **options: Any) -> Bar[T]:
        """Report progress as tqdm does: ``for x in self.track(items, desc="x")``."""
        return Bar(iterable, report=self.progress, **options)

    def paginate_logs(self, page: Any = 1, per_page: int = 50) -> Page[Any]:
        """A page of the log by number, without counting it; a wild page is clamped."""
        return reading.page(self, page, per_page)

    def tail(self, after: int = 0, limit: int = 500) -> list[Any]:
        """Up to ``limit`` lines that follow a sequence number, in order."""
        return reading.tail(self, after, limit)

    def stream(self, after: int = 0) -> Iterator[Any]:
        """Follow the log from a sequence number on, until the process has ended."""
        return reading.stream(self, after)

    def astream(self, after: int = 0) -> AsyncIterator[Any]:
        """See ``stream``."""
        return reading.astream(self, after)

    # Public setters of the status, for backends of other makes

    def mark_running(self) -> bool:
        """Pending becomes running; False if it was not pending."""
        return moves.begin(self, "marked")

    def mark_succeeded(self) -> bool:
        """Running becomes succeeded; False if it did not run."""
        return moves.end(self, Q(status=moves.RUNNING), moves.SUCCEEDED)

    def mark_failed(self, error: object = "") -> bool:
        """What has not ended becomes failed; False if it has."""
        return moves.end(
            self, ~Q(status__in=moves.ENDS), moves.FAILED, error=str(error)
        )

    def mark_cancelled(self) -> bool:
        """What has not ended becomes cancelled; False if it has."""
        return moves.end(self, ~Q(status__in=moves.ENDS), moves.CANCELLED)

    def mark_timed_out(self) -> bool:
        """Running becomes timed_out, and the log says so; False if it did not run."""
        said = moves.too_long(self)
        running = Q(status=moves.RUNNING)
        moved = moves.end(self, running, moves.TIMED_OUT, error=said)
        if moved:
            self.log(said, level="error")
        return moved

    # What is remembered of the row

    @classmethod
    def from_db(
        cls, db: str | None, field_names: Any, values: Any, **kwargs: Any
    ) -> Any:
        """Load a row, and remember what it said of the engine's columns."""
        instance = super().from_db(db, field_names, values, **kwargs)
        instance._windlass_note()
        return instance

    def refresh_from_db(
        self, using: str | None = None, fields: Any = None, from_queryset: Any = None
    ) -> None:
        """Reload the row, and what is remembered of it."""
        fields = None if fields is None else list(fields)
        super().refresh_from_db(using, fields, from_queryset)
        self._windlass_note(fields)

    def _windlass_note(self, fields: Iterable[str] | None = None) -> None:
        loaded = self.__dict__
        seen = loaded.setdefault("_windlass_seen", {})
        names = moves.OWNED if fields is None else fields
        seen.update({n: loaded[n] for n in names if n in moves.OWNED and n in loaded})

    def _windlass_own_fields(self) -> list[str]:
        seen = getattr(self, "_windlass_seen", {})
        loaded = self.__dict__
        return [
            field.name
            for field in self._meta.concrete_fields
            if field.attname in loaded
            and not (field.primary_key or getattr(field, "generated", False))
            and not (
                field.name in moves.OWNED
                and field.name in seen
                and seen[field.name] == loaded[field.attname]
            )
        ]

    def _windlass_database(self) -> str:
        return self._state.db or router.db_for_write(type(self), instance=self)

    astart = twin(start)
    arestart = twin(restart)
    acancel = twin(cancel)
    aexecute = twin(execute)
    alog = twin(log)
    aprogress = twin(progress)
    atail = twin(tail)
    apaginate_logs = twin(paginate_logs)
    await_ = twin(wait)
