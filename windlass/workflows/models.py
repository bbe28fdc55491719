"""
A run of a workflow, its members, and what waits for what.

A member is a job, or a gate: where several meet, and where a nested flow ends. A
member that is a job has the job's own id. How far a run has come follows from the
rows of its members, and whether a member may go on from the rows of its edges; no
number is kept that could be wrong.

Whoever changes members or edges holds the lock of the run's row. The workspace has a
row of its own, because a task may hold that one for as long as it likes.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from windlass.models import Job
from windlass.twins import twin
from windlass.workflows.states import (
    FAILURES,
    EdgeState,
    Kind,
    Outcome,
    Policy,
    RunState,
    When,
)

if TYPE_CHECKING:
    from windlass.workflows.runs import Progress

__all__ = ["FAILURES", "EdgeState", "Kind", "Outcome", "Policy", "RunState", "When"]


class RunQuerySet(models.QuerySet["WorkflowRun"]):
    """Named scopes of runs."""

    def running(self) -> RunQuerySet:
        return self.filter(state=RunState.RUNNING)

    def finished(self) -> RunQuerySet:
        return self.exclude(state=RunState.RUNNING)


class WorkflowRun(models.Model):
    """One run of a workflow."""

    id = models.UUIDField(primary_key=True, editable=False)
    name = models.CharField(_("name"), max_length=255)
    backend_alias = models.CharField(_("backend"), max_length=64)
    state = models.CharField(
        _("state"), max_length=16, choices=RunState.choices, default="running"
    )
    created_at = models.DateTimeField(_("created at"))
    finished_at = models.DateTimeField(_("finished at"), null=True)
    # Why it was cancelled; None while nobody has asked for that.
    cancel_reason = models.TextField(_("reason of the cancel"), null=True)
    is_announced = models.BooleanField(_("announced"), default=False)

    objects = RunQuerySet.as_manager()

    class Meta:
        app_label = "windlass_workflows"
        db_table = "windlass_workflow_run"
        verbose_name = _("workflow run")
        verbose_name_plural = _("workflow runs")
        indexes = [
            models.Index(fields=["state", "is_announced"], name="windlass_run_state"),
            models.Index(fields=["created_at"], name="windlass_run_created"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(state="running", finished_at__isnull=True)
                | (~Q(state="running") & Q(finished_at__isnull=False)),
                name="windlass_run_ends_once",
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.id} ({self.state})"

    @property
    def is_finished(self) -> bool:
        """Whether it has come to its end, as far as this object knows."""
        return self.state != RunState.RUNNING

    @property
    def members(self) -> models.QuerySet[WorkflowMember]:
        """The members that are jobs, in the order in which they were added."""
        rows = WorkflowMember.objects.using(self._state.db)
        return rows.filter(run=self.pk, kind=Kind.JOB).order_by("number")

    @property
    def jobs(self) -> models.QuerySet[Job]:
        """The jobs of the run that have not been pruned."""
        ids = list(self.members.values_list("pk", flat=True))
        return Job.objects.using(self._state.db).filter(pk__in=ids)

    @property
    def progress(self) -> Progress:
        """How many of its jobs are over, and of how many; read from the rows now."""
        from windlass.workflows import runs

        return runs.progress(self)

    @property
    def workspace(self) -> dict[str, Any]:
        """What its members share, as it is now."""
        row = WorkflowSpace.objects.using(self._state.db).get(pk=self.pk)
        data: dict[str, Any] = row.data
        return data

    def refresh(self) -> None:
        """Read the run's state again."""
        self.refresh_from_db()

    def result(self, name: str) -> Any:
        """
        The return value of the member of a name; None if it did not succeed.

        Raises WorkflowMember.DoesNotExist, and Job.DoesNotExist if its job is pruned.
        """
        member = self.members.get(name=name)
        if member.outcome == Outcome.SUCCEEDED and member.is_wanted:
            return member.value
        return Job.objects.using(self._state.db).get(pk=member.pk).return_value

    def cancel(self, reason: str = "") -> None:
        """
        Cancel whatever of the run has not ended; it is then ``cancelled``.

        What waits ends at once, what runs is told to stop. Nothing happens to a run
        that is finished. The run's row is locked until the caller's transaction ends.
        """
        from windlass.workflows import cancelling

        cancelling.cancel(self, reason)

    def retry(self, start: Any = None) -> int:
        """
        Run again what failed or was skipped, and whatever comes after it.

        With ``start``, a member or its name: that one and what comes after it, however
        they ended. Members that run already are left alone. Gives back how many jobs
        live again. Raises StaleJob, with nothing changed, if the job of one of them
        was pruned. The run's row is locked until the caller's transaction ends.
        """
        from windlass.workflows import retrying

        return retrying.retry(self, start)

    def wait(self, timeout: float | None = 300) -> bool:
        """Wait until the run is finished; False if it is not after so many seconds."""
        from windlass.workflows import runs

        return runs.wait(self, timeout)

    async def wait_async(self, timeout: float | None = 300) -> bool:
        """See ``wait``."""
        from windlass.workflows import runs

        return await runs.wait_async(self, timeout)

    acancel = twin(cancel)
    aretry = twin(retry)
    arefresh = twin(refresh)
    aresult = twin(result)


class WorkflowSpace(models.Model):
    """The workspace of a run."""

    run = models.UUIDField(primary_key=True, editable=False)
    data = models.JSONField(_("workspace"))
    version = models.IntegerField(_("version"), default=0)

    class Meta:
        app_label = "windlass_workflows"
        db_table = "windlass_workflow_space"
        verbose_name = _("workspace")
        verbose_name_plural = _("workspaces")

    def __str__(self) -> str:
        return str(self.run)


class WorkflowMember(models.Model):
    """A job or a gate of a run, and what became of it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    run = models.ForeignKey(
        WorkflowRun,
        models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="+",
        verbose_name=_("run"),
    )
    number = models.IntegerField(_("number"))
    name = models.CharField(_("name"), max_length=255)
    kind = models.CharField(_("kind"), max_length=8, choices=Kind.choices)
    task_path = models.CharField(_("task"), max_length=500, db_default="", blank=True)
    # The nested flows it is in, the outermost first: "/0/3/".
    scope = models.CharField(_("scope"), max_length=255)
    policy = models.CharField(_("on failure"), max_length=8, choices=Policy.choices)
    # A callback runs though its flow has stopped.
    is_callback = models.BooleanField(_("callback"))
    # Whether its failure, if it fails, is none of the run's.
    is_forgiven = models.BooleanField(_("forgiven"))
    # Whether somebody is given its return value, which is then kept here.
    is_wanted = models.BooleanField(_("wanted"))
    # What the call has of its own at its turn; None if it is as the job was stored.
    plan = models.JSONField(_("plan"), null=True)
    is_open = models.BooleanField(_("open"), default=True)
    is_let_go = models.BooleanField(_("let go"), default=False)
    outcome = models.CharField(
        _("outcome"), max_length=16, choices=Outcome.choices, blank=True, default=""
    )
    why = models.CharField(_("why"), max_length=255, db_default="", blank=True)
    value = models.JSONField(_("return value"), null=True)

    class Meta:
        app_label = "windlass_workflows"
        db_table = "windlass_workflow_member"
        verbose_name = _("workflow member")
        verbose_name_plural = _("workflow members")
        indexes = [
            models.Index(fields=["run", "number"], name="windlass_member_number"),
            models.Index(fields=["run", "is_open"], name="windlass_member_open"),
            models.Index(fields=["is_open", "id"], name="windlass_member_sweep"),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.outcome or 'open'})"


class WorkflowEdge(models.Model):
    """One member waits for another one of the same run."""

    run = models.UUIDField()
    parent = models.UUIDField()
    child = models.UUIDField()
    when = models.SmallIntegerField(choices=When.choices)
    state = models.SmallIntegerField(choices=EdgeState.choices, default=EdgeState.OPEN)

    class Meta:
        app_label = "windlass_workflows"
        db_table = "windlass_workflow_edge"
        verbose_name = _("edge")
        verbose_name_plural = _("edges")
        indexes = [
            models.Index(fields=["parent"], name="windlass_edge_parent"),
            models.Index(fields=["child", "state"], name="windlass_edge_child"),
            models.Index(fields=["run"], name="windlass_edge_run"),
        ]

    def __str__(self) -> str:
        return f"{self.parent} -> {self.child}"
