"""
Which jobs ``windlass_jobs`` is about, and moving them by the functions of the API.

What is named by its id is moved, or it is said why not. What filters find is moved as
far as it still is what was meant; the rest is nobody's mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self

from windlass import api, db
from windlass import conf_values as values
from windlass.exceptions import ConfigurationError, StaleJob, UndiscardableError
from windlass.models import Job, State
from windlass.models.view import JobQuerySet, parse_id

BATCH = 500
REFUSALS = (Job.DoesNotExist, StaleJob, UndiscardableError)
FILTERS = ("queue", "task_path", "state", "older_than")


@dataclass(frozen=True, slots=True)
class Verb:
    """What can be done to jobs, and to those in which states."""

    name: str
    done: str
    help: str
    states: tuple[str, ...]
    # Those only if they are asked for.
    more_states: tuple[str, ...] = ()


VERBS = {
    verb.name: verb
    for verb in (
        Verb(
            "retry",
            "Retried",
            "Let ended jobs live again",
            (State.FAILED,),
            (State.CANCELLED, State.DISCARDED),
        ),
        Verb(
            "cancel",
            "Cancelled",
            "Cancel jobs that wait or run",
            (State.READY, State.SCHEDULED, State.BLOCKED, State.RUNNING),
        ),
        Verb(
            "discard",
            "Discarded",
            "Throw jobs away",
            (State.FAILED,),
            (State.READY, State.SCHEDULED, State.BLOCKED),
        ),
        Verb(
            "run-now",
            "Made ready",
            "Make scheduled jobs ready",
            (State.SCHEDULED,),
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which jobs of a backend are meant."""

    alias: str
    database: str
    ids: tuple[str, ...]
    states: tuple[str, ...]
    named: dict[str, str]
    older_than: timedelta | None = None
    reason: str = ""
    is_dry: bool = False

    @classmethod
    def of(cls, alias: str, database: str, given: dict[str, Any]) -> Self:
        """Read the command line; ConfigurationError for what makes no sense."""
        ids = [given["id"]] if "id" in given else given.get("ids", [])
        wrong = next((id for id in ids if parse_id(id) is None), None)
        if wrong is not None:
            raise ConfigurationError(f"ID {wrong!r} is no id of a job.")
        filters = [f for f in FILTERS if given.get(f)]
        if "ids" in given:
            _check(ids, filters, given)
        age = given.get("older_than")
        names = {"queue": "queue_name", "task_path": "task_path"}
        return cls(
            alias=alias,
            database=database,
            ids=tuple(str(parse_id(id)) for id in ids),
            states=tuple(given.get("state") or ()),
            named={names[f]: given[f] for f in filters if f in names},
            older_than=values.age(age, "--older-than") if age else None,
            reason=given.get("reason", ""),
            is_dry=given.get("dry_run", False),
        )

    def jobs(self, *states: str) -> JobQuerySet:
        """Those jobs, the newest first."""
        found = Job.objects.using(self.database).filter(
            backend_alias=self.alias, **self.named
        )
        if self.ids:
            found = found.filter(pk__in=self.ids)
        if chosen := self.states or states:
            found = found.in_state(*chosen)
        if self.older_than is not None:
            before = db.dialect(self.database).now() - self.older_than
            found = found.filter(enqueued_at__lte=before)
        return found.order_by("-id")


@dataclass(slots=True)
class Done:
    """How many jobs were moved, and why those that were named were not."""

    count: int = 0
    refused: dict[str, str] = field(default_factory=dict)


def move(verb: Verb, wanted: Wanted) -> Done:
    """Do something to the jobs that are meant."""
    done = Done()
    if wanted.is_dry:
        done.count = wanted.jobs(*verb.states).count()
    elif wanted.ids:
        for id in wanted.ids:
            try:
                done.count += _EACH[verb.name](id, wanted)
            except REFUSALS as error:
                done.refused[id] = str(error)
    else:
        for state in wanted.states or verb.states:
            for ids in _batches(wanted, state):
                done.count += _move_all(verb, state, ids, wanted)
    return done


def _move_all(verb: Verb, state: str, ids: list[str], wanted: Wanted) -> int:
    """Move what was found in a state, if it still is in it."""
    if together := _TOGETHER.get((verb.name, state)):
        return together(ids, backend_alias=wanted.alias)
    count = 0
    for id in ids:
        with suppress(*REFUSALS):
            count += _EACH[verb.name](id, wanted)
    return count


def _check(ids: list[str], filters: list[str], given: dict[str, Any]) -> None:
    if ids and (filters or given["all"]):
        raise ConfigurationError("Jobs are named by ids or by filters, not by both.")
    if not (ids or filters or given["all"]):
        raise ConfigurationError(
            "Which jobs? Name ids, or --queue, --task-path, --state or --older-than, "
            "or --all."
        )


def _batches(wanted: Wanted, state: str) -> Iterator[list[str]]:
    """Ids of those in a state, a batch at a time, the newest first."""
    last = None
    while True:
        rows = wanted.jobs().in_state(state)
        if last is not None:
            rows = rows.filter(pk__lt=last)
        batch = list(rows.values_list("pk", flat=True)[:BATCH])
        if not batch:
            return
        yield [str(id) for id in batch]
        last = batch[-1]


def _retry(id: str, wanted: Wanted) -> bool:
    api.retry_failed_job(id, backend_alias=wanted.alias)
    return True


def _cancel(id: str, wanted: Wanted) -> bool:
    if api.cancel_job(id, wanted.reason, backend_alias=wanted.alias):
        return True
    raise StaleJob(f"Job {id} has ended, so there is nothing to cancel.")


def _discard(id: str, wanted: Wanted) -> bool:
    for (name, _state), discard in _TOGETHER.items():
        if name == "discard" and discard([id], backend_alias=wanted.alias):
            return True
    job = Job.objects.using(wanted.database).get(pk=id)
    raise UndiscardableError(f"Job {id} is {job.state}, and cannot be discarded.")


def _run_now(id: str, wanted: Wanted) -> bool:
    api.run_now(id, backend_alias=wanted.alias)
    return True


_EACH: dict[str, Callable[[str, Wanted], bool]] = {
    "retry": _retry,
    "cancel": _cancel,
    "discard": _discard,
    "run-now": _run_now,
}
# What the API does to many at once.
_TOGETHER: dict[tuple[str, str], Callable[..., int]] = {
    ("retry", State.FAILED): api.retry_failed_jobs,
    ("discard", State.FAILED): api.discard_failed_jobs,
    ("discard", State.READY): api.discard_ready_jobs,
    ("discard", State.SCHEDULED): api.discard_scheduled_jobs,
    ("discard", State.BLOCKED): api.discard_blocked_jobs,
}
