"""
Running a part of a run again: some members, and everything that comes after them.

A job lives again under its own id, blocked, and its turn comes as it did the first
time: when what it waits for has ended, with the results as they are by then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db import transaction

from windlass import conf, db
from windlass.db import Dialect, memos
from windlass.exceptions import StaleJob
from windlass.jobs import holding
from windlass.models.view import parse_id
from windlass.workflows.building import Member
from windlass.workflows.engine import Advance
from windlass.workflows.models import (
    FAILURES,
    EdgeState,
    Kind,
    Outcome,
    RunState,
    WorkflowMember,
    WorkflowRun,
)
from windlass.workflows.rows import HOLD, batches, lock_runs

AGAIN = ("state", "finished_at", "cancel_reason", "is_announced")
NEW = {"is_open": True, "is_let_go": False, "outcome": "", "why": "", "value": None}


def retry(run: WorkflowRun, start: Any) -> int:
    """See ``WorkflowRun.retry``."""
    own = db.dialect(conf.options(run.backend_alias).database_alias)
    with transaction.atomic(using=own.database):
        runs = lock_runs(own, [run.pk])
        advance = Advance(own, runs)
        members = advance.members.filter(run=run.pk)
        seeds = _failed(members) if start is None else [_member(members, start).pk]
        again = _settled(advance, _and_after(advance, run.pk, seeds))
        jobs = [str(m.pk) for m in again if m.kind == Kind.JOB]
        alive: set[str] = set()
        for some in batches(jobs):
            alive |= holding.repeat(own, some, HOLD)
        if gone := [m.name for m in again if str(m.pk) in {*jobs} - alive]:
            raise StaleJob(
                f"The run {run.pk} cannot be retried: the job of {gone[0]!r} was "
                "pruned, or another one holds its unique key. Nothing was changed."
            )
        # What failed goes on after the steps it took; what succeeded begins anew.
        for done in batches(m.pk for m in again if m.outcome == Outcome.SUCCEEDED):
            memos.forget(own, done)
        _open_again(advance, runs, again)
        advance.finish()
    run.refresh_from_db()
    return len(jobs)


def reopen_revived(
    own: Dialect, runs: Mapping[UUID, WorkflowRun], ids: Sequence[str]
) -> None:
    """Open members again whose jobs somebody let live again, and what came after."""
    advance = Advance(own, runs)
    revived = {UUID(id) for id in ids}
    found = advance.members.filter(pk__in=revived, run__in=list(runs), is_open=False)
    seeds: dict[UUID, list[UUID]] = {}
    for id, run in found.values_list("pk", "run"):
        seeds.setdefault(run, []).append(id)
    for run, some in seeds.items():
        after = _settled(advance, _and_after(advance, run, some))
        again = [member for member in after if member.pk not in revived]
        jobs = [str(m.pk) for m in again if m.kind == Kind.JOB]
        alive: set[str] = set()
        for part in batches(jobs):
            alive |= holding.repeat(own, part, HOLD)
        advance.members.filter(pk__in=some).update(**{**NEW, "is_let_go": True})
        _open_edges(advance, some)
        _open_again(advance, {run: runs[run]}, again)
        # What has no job any more will not have one again.
        advance.settle_ended([id for id in jobs if id not in alive], pruned=True)
    advance.finish()


def _failed(members: Any) -> list[UUID]:
    failed = members.filter(outcome__in=FAILURES, is_forgiven=False, kind=Kind.JOB)
    ids = list(failed.values_list("pk", flat=True))
    if not ids:
        return []
    skipped = members.filter(outcome=Outcome.SKIPPED)
    return [*ids, *skipped.values_list("pk", flat=True)]


def _member(members: Any, start: Any) -> WorkflowMember:
    if isinstance(start, WorkflowMember):
        start = start.pk
    if isinstance(start, Member):
        start = start.name
    which = {"name": start} if parse_id(start) is None else {"pk": start}
    found: WorkflowMember = members.get(**which)
    return found


def _and_after(advance: Advance, run: UUID, seeds: Iterable[UUID]) -> set[UUID]:
    """Some members of a run, and all that come after them."""
    behind: dict[UUID, list[UUID]] = {}
    rows = advance.edges.filter(run=run).values_list("parent", "child")
    for parent, child in rows.iterator():
        behind.setdefault(parent, []).append(child)
    found, rest = set(), list(seeds)
    while rest:
        id = rest.pop()
        if id not in found:
            found.add(id)
            rest += behind.get(id, ())
    return found


def _settled(advance: Advance, ids: Iterable[UUID]) -> list[WorkflowMember]:
    found: list[WorkflowMember] = []
    for some in batches(ids):
        rows = advance.members.filter(pk__in=some, is_open=False)
        found += rows.defer("plan", "value")
    return sorted(found, key=lambda member: member.number)


def _open_again(
    advance: Advance,
    runs: Mapping[UUID, WorkflowRun],
    members: Sequence[WorkflowMember],
) -> None:
    ids = [member.pk for member in members]
    for some in batches(ids):
        advance.members.filter(pk__in=some).update(**NEW)
    _open_edges(advance, ids)
    for run in runs.values():
        run.state, run.finished_at = RunState.RUNNING.value, None
        run.cancel_reason, run.is_announced = None, False
        run.save(using=advance.db.database, update_fields=AGAIN)
    advance.consider(ids)


def _open_edges(advance: Advance, ids: Sequence[UUID]) -> None:
    for some in batches(ids):
        advance.edges.filter(parent__in=some).update(state=EdgeState.OPEN)
