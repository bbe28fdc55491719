"""
Multi-step jobs: one task after another, with a workspace that each may change.

Each step is claimed, run and recorded as any job is, with the policies of its own
task; between two steps any worker may take over. The plan is stored with the job, so a
change of ``JOBS`` is for the jobs to come. A step is called with its ``Job``, and what
it has made of the job's workspace is stored by the very statement that ends the
attempt, however that ended. What died with its process leaves the workspace as it was.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import DatabaseError
from django.utils.module_loading import import_string

from windlass import conf, db
from windlass.db import Advanced, Claimed, Ended, planned
from windlass.exceptions import JobCancelled, RefusedTask, StaleJob
from windlass.jobs import attempts, lifecycle, outcomes, resolving
from windlass.jobs.arguments import dump_value
from windlass.jobs.keys import limit_keys
from windlass.jobs.lifecycle import Attempt
from windlass.jobs.outcomes import Executor, Outcome
from windlass.jobs.policies import read, stored
from windlass.jobs.retries import Cancel, Snooze, Suspended
from windlass.models import Job, State
from windlass.tasks_api import Task

logger = logging.getLogger("windlass")

# What a job's policy keeps from one step to the next.
CARRIED = ("share", "workflow")
# No failure of the step, so no failure hook.
NO_FAILURES = (Snooze, Suspended, Cancel, JobCancelled)
# Seconds until a step is tried again whose job could not be read.
LATER = 1.0


def load(claimed: Claimed, executor: Executor, started: float) -> Step:
    """What a step's function is called with; raise Snooze if it cannot be read."""
    try:
        own = db.dialect(executor.database)
        columns = planned.held(own, executor.node, claimed)
    except DatabaseError as error:
        # The task has not begun, so its attempt is not spent.
        raise Snooze(LATER) from error
    if columns is None:
        raise StaleJob(f"Job {claimed.id}: somebody else has it, so it was not begun.")
    return Step(claimed, _job(claimed, executor, started, columns))


def _job(
    claimed: Claimed, executor: Executor, started: float, columns: dict[str, Any]
) -> Job:
    """The job as ``Job.objects.get()`` would give it, without asking again."""
    names = ("id", "backend_alias", "queue_name", "task_path", "enqueued_at")
    numbers = ("attempts", "max_attempts", "crashes")
    texts = ("args", "kwargs", "history", "metadata", "policy")
    job = Job(
        **{name: getattr(claimed, name) for name in (*names, *numbers)},
        **{name: json.loads(getattr(claimed, name) or "null") for name in texts},
        **columns,
        state=State.RUNNING,
        reason="",
        priority=-claimed.nice,
        run_after=claimed.available_at,
        started_at=executor.moment(started),
        node=executor.node,
    )
    job.id = UUID(claimed.id)
    job._state.adding, job._state.db = False, executor.database
    return job


class Step:
    """One attempt of a step: its job as the user's code sees it, and what it left."""

    def __init__(self, claimed: Claimed, job: Job) -> None:
        self.claimed, self.job = claimed, job
        plan: dict[str, Any] = job.plan or {}
        self.tasks: list[str] = plan.get("tasks", [])
        self.hooks: dict[str, str] = plan.get("hooks", {})
        # The workspace as it is to be stored; None leaves it as it was.
        self.workspace: str | None = None

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        """Call the hooks and the task in their order; raise what the task raised."""
        try:
            self._hook("pre_task_hook")
            function(*args, self.job)
            self.workspace = dump_workspace(self.job.workspace)
        except BaseException as error:
            self._failed(error)
            raise
        finally:
            self._over()

    async def acall(self, function: Callable[..., Any], *args: Any) -> None:
        """See ``call``; the hooks run in a thread."""
        try:
            if "pre_task_hook" in self.hooks:
                await sync_to_async(self._hook)("pre_task_hook")
            await function(*args, self.job)
            self.workspace = dump_workspace(self.job.workspace)
        except BaseException as error:
            await sync_to_async(self._failed)(error)
            raise
        finally:
            await sync_to_async(self._over)()

    def _hook(self, name: str, *args: Any) -> None:
        if name in self.hooks:
            import_string(self.hooks[name])(self.job, *args)

    def _failed(self, error: BaseException) -> None:
        if not isinstance(error, NO_FAILURES):
            self._contained("failure_hook", error)

    def _over(self) -> None:
        self._contained("post_task_hook")
        try:
            # The hooks may have changed it, and so may a task before it failed.
            self.workspace = dump_workspace(self.job.workspace)
        except TypeError:
            logger.exception(
                "Job %s: what a step has made of its workspace cannot be stored.",
                self.claimed.id,
            )

    def _contained(self, name: str, *args: Any) -> None:
        try:
            self._hook(name, *args)
        except BaseException:
            # It is the user's, and the step has come to its end whatever it does.
            logger.exception("Job %s: its %s failed.", self.claimed.id, name)

    def advance(self, attempt: Attempt) -> Advanced | None:
        """The move to the next step, or None after the last; raise RefusedTask."""
        place = read(attempt.job.policy or "{}")["step"] + 1
        if place >= len(self.tasks):
            return None
        path = self.tasks[place]
        # One that is gone is refused when it comes to run; the step before it is done.
        following = attempt.job._replace(task_path=path)
        task = resolving.find(following) or resolving.missing(path)
        options = conf.options(self.claimed.backend_alias)
        budget = getattr(task, "max_attempts", None) or options.max_attempts
        kept = read(attempt.job.policy or "{}")
        carried = {name: kept[name] for name in CARRIED if name in kept}
        return lifecycle.advance(
            attempt,
            attempts.well_ended(attempt) | {"done": attempt.job.task_path},
            task_path=path,
            max_attempts=budget,
            policy=policy(task, self.job, place, now=attempt.ended, carried=carried),
            workspace=self.workspace or "{}",
        )


def policy(
    task: Task, job: Job, place: int, *, now: float, carried: dict[str, Any]
) -> str:
    """What is kept with a job at one of its steps; raise RefusedTask for a bad key."""
    said = json.loads(stored(task, now=now) or "{}")
    said.pop("by_name", None)
    if place:
        # A job that has started is never too late.
        said.pop("expires_at", None)
    return json.dumps(said | limit_keys(task, [job], {}) | carried | {"step": place})


def dump_workspace(workspace: Any) -> str:
    """A workspace as JSON text; raise TypeError if it is none, or no dict."""
    if not isinstance(workspace, dict):
        raise TypeError(f"A job's workspace must be a dict, not {workspace!r}.")
    return dump_value(workspace, "workspace")


def conclude(step: Step, outcome: Outcome, executor: Executor) -> Outcome:
    """The same outcome for a job with steps: what is next, and its workspace."""
    move = outcome.move
    if type(move) is Ended and move.state == "succeeded":
        started, ended = move.started_at, move.finished_at
        assert started is not None, "it has run"
        attempt = Attempt(step.claimed, executor.node, started, ended)
        try:
            following = step.advance(attempt)
        except RefusedTask as error:
            failed = outcomes.failed(step.claimed, error, executor, started)
            return conclude(step, failed, executor)
        if following is not None:
            return outcomes.advanced(outcome, following)
    assert not isinstance(move, Advanced), "it is the outcome of one attempt"
    return outcome._replace(move=move._replace(workspace=step.workspace))
