"""
How a run moves on: members settle, edges close, and whoever waits for nothing goes.

One ``Advance`` is the work of one transaction, on any number of runs whose rows it
has locked. It goes level by level: the members that have just settled close the edges
to those behind them; of these, who has no open edge left is let go, or skipped if one
of its edges failed, and what was skipped settles in turn. What a member waits for is
never counted, it is looked up: so nothing drifts, and whatever was not noticed in its
time is settled later in exactly the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from django.db.models import Exists, OuterRef, QuerySet

from windlass.db import Dialect
from windlass.jobs import holding
from windlass.models import EndedJob, LiveJob
from windlass.workflows.models import (
    FAILURES,
    EdgeState,
    Kind,
    Outcome,
    Policy,
    RunState,
    When,
    WorkflowEdge,
    WorkflowMember,
    WorkflowRun,
)
from windlass.workflows.rows import HOLD, Id, batches
from windlass.workflows.values import changes

WHY_LENGTH = 255
END_FIELDS = ("state", "finished_at", "is_announced")


class Settled(NamedTuple):
    """A member that is over, and how."""

    member: WorkflowMember
    outcome: str
    why: str = ""

    @property
    def is_failure(self) -> bool:
        """Whether others are to learn that it did not do what it should."""
        return self.outcome in FAILURES and self.member.policy != Policy.IGNORE


class Advance:
    """What happens to some locked runs in one transaction."""

    def __init__(self, db: Dialect, runs: Mapping[UUID, WorkflowRun]) -> None:
        self.db, self.runs = db, runs
        self.members = WorkflowMember.objects.using(db.database)
        self.edges = WorkflowEdge.objects.using(db.database)
        self.freed: list[WorkflowMember] = []
        self.skipped: dict[str, list[str]] = {}

    # What has happened

    def settle_ended(self, ids: Sequence[Id], *, pruned: bool = False) -> None:
        """
        Settle those of some open members whose jobs have ended.

        With ``pruned``, a job that is nowhere any more counts as ended, too.
        """
        found: list[Settled] = []
        for some in batches(ids):
            members = self._of_runs(self.members.filter(pk__in=some, is_open=True))
            rows = list(members.filter(kind=Kind.JOB).defer("plan", "value"))
            found += self._ends(rows, pruned=pruned)
        self.settle(found)

    def _of_runs(self, rows: QuerySet[WorkflowMember]) -> QuerySet[WorkflowMember]:
        return rows.filter(run__in=list(self.runs))

    def _ends(
        self, members: Sequence[WorkflowMember], *, pruned: bool
    ) -> Iterator[Settled]:
        ids = [member.pk for member in members]
        ended = EndedJob.objects.using(self.db.database).filter(pk__in=ids)
        states = dict(ended.values_list("pk", "state"))
        wanted = [m.pk for m in members if m.is_wanted and m.pk in states]
        values = dict(ended.filter(pk__in=wanted).values_list("pk", "return_value"))
        self._keep(members, values)
        live = set()
        if pruned and len(states) < len(members):
            rows = LiveJob.objects.using(self.db.database).filter(pk__in=ids)
            live = set(rows.values_list("pk", flat=True))
        for member in members:
            if member.pk in states:
                yield Settled(member, states[member.pk])
            elif pruned and member.pk not in live:
                yield Settled(member, Outcome.PRUNED)

    def _keep(
        self, members: Sequence[WorkflowMember], values: Mapping[UUID, object]
    ) -> None:
        kept = [m for m in members if values.get(m.pk) is not None]
        for member in kept:
            member.value = values[member.pk]
        if kept:
            self.members.bulk_update(kept, ["value"])

    # What follows

    def settle(self, settled: Sequence[Settled]) -> None:
        """Note how members ended, and everything that follows, however far it goes."""
        level = list(settled)
        while level:
            self._write(level)
            self._close_edges(level)
            behind = self._behind(level)
            stopped = self._stopped(level)
            ids = {each.member.pk for each in stopped}
            level = stopped + self._next([id for id in behind if id not in ids])

    def consider(self, ids: Sequence[Id]) -> None:
        """Look at members anew that may have nothing to wait for."""
        self.settle(self._next(ids))

    def _write(self, level: Sequence[Settled]) -> None:
        ways: dict[tuple[str, str], list[UUID]] = {}
        for each in level:
            ways.setdefault((each.outcome, each.why), []).append(each.member.pk)
        for (outcome, why), ids in ways.items():
            for some in batches(ids):
                rows = self.members.filter(pk__in=some)
                rows.update(is_open=False, outcome=outcome, why=why)

    def _close_edges(self, level: Sequence[Settled]) -> None:
        passed: dict[int, list[UUID]] = {}
        failed: dict[int, list[UUID]] = {}
        for each in level:
            is_gate = each.member.kind != Kind.JOB
            for when in When if is_gate else (When.SUCCESS,):
                way = passed if _lets_pass(when, each) else failed
                way.setdefault(when, []).append(each.member.pk)
        for way, state in ((passed, EdgeState.PASSED), (failed, EdgeState.FAILED)):
            for which, parents in way.items():
                for some in batches(parents):
                    rows = self.edges.filter(parent__in=some, when=which)
                    rows.filter(state=EdgeState.OPEN).update(state=state)

    def _behind(self, level: Sequence[Settled]) -> list[UUID]:
        found: dict[UUID, None] = {}
        for some in batches([each.member.pk for each in level]):
            rows = self.edges.filter(parent__in=some).order_by("id")
            found |= dict.fromkeys(rows.values_list("child", flat=True))
        return list(found)

    def _next(self, ids: Sequence[Id]) -> list[Settled]:
        """Let go who may go on; give back who is over without having started."""
        over: list[Settled] = []
        for some in batches(ids):
            waits = self.edges.filter(child=OuterRef("pk"), state=EdgeState.OPEN)
            rows = self.members.filter(pk__in=some, is_open=True, is_let_go=False)
            ready = list(rows.filter(~Exists(waits)).order_by("number").defer("value"))
            reasons = self._reasons([member.pk for member in ready])
            for member in ready:
                why = reasons.get(member.pk)
                if member.kind != Kind.JOB:
                    outcome = Outcome.SUCCEEDED if why is None else Outcome.FAILED
                    over.append(Settled(member, outcome, why or ""))
                elif why is None and self._cancel_reason(member) is None:
                    self.freed.append(member)
                else:
                    over.append(self._skip(member, why or "the run was cancelled"))
        return over

    def _cancel_reason(self, member: WorkflowMember) -> str | None:
        return self.runs[member.run_id].cancel_reason

    def _reasons(self, ids: Sequence[UUID]) -> dict[UUID, str]:
        """Why each of some members may not go on, if it may not."""
        rows = self.edges.filter(child__in=ids, state=EdgeState.FAILED).order_by("id")
        parents: dict[UUID, UUID] = {}
        for child, parent in rows.values_list("child", "parent"):
            parents.setdefault(child, parent)
        if not parents:
            return {}
        found: dict[UUID, WorkflowMember] = {}
        for some in batches(list(set(parents.values()))):
            found |= {row.pk: row for row in self.members.filter(pk__in=some)}
        return {child: _because_of(found[parent]) for child, parent in parents.items()}

    def _skip(self, member: WorkflowMember, why: str) -> Settled:
        self.skipped.setdefault(why, []).append(str(member.pk))
        return Settled(member, Outcome.SKIPPED, why)

    def _stopped(self, level: Sequence[Settled]) -> list[Settled]:
        """Skip whatever has not started in flows that a failure stops."""
        scopes: dict[tuple[UUID, str], str] = {}
        for each in level:
            if each.member.policy == Policy.STOP and each.is_failure:
                why = each.why or _said(each.member.name, each.outcome)
                scopes.setdefault((each.member.run_id, each.member.scope), why)
        over: dict[UUID, Settled] = {}
        for (run, scope), why in scopes.items():
            rows = self.members.filter(run=run, is_open=True, kind=Kind.JOB)
            rows = rows.filter(scope__startswith=scope, is_callback=False)
            waiting = rows.filter(is_let_go=False).defer("plan", "value")
            over |= {m.pk: self._skip(m, why) for m in waiting if m.pk not in over}
            going = rows.filter(is_let_go=True).values_list("pk", flat=True)
            moved = self.turn_back([str(id) for id in going], why)
            over |= {m.pk: Settled(m, Outcome.SKIPPED, why) for m in moved}
        self.freed = [member for member in self.freed if member.pk not in over]
        return list(over.values())

    def turn_back(self, ids: Sequence[str], why: str) -> list[WorkflowMember]:
        """End jobs that were let go and have not begun; give back whose they were."""
        moved: list[str] = []
        for some in batches(ids):
            # What somebody else has locked is beginning at this moment.
            moved += holding.drop(self.db, some, why=why, skip_locked=True)
        return list(self.members.filter(pk__in=moved).defer("plan", "value"))

    # The end of the transaction

    def finish(self) -> None:
        """Move the jobs of whoever was let go or skipped; end runs that are over."""
        for why, ids in self.skipped.items():
            for some in batches(ids):
                holding.drop(self.db, some, why=why)
        for members in batches(self.freed):
            self.members.filter(pk__in=[m.pk for m in members]).update(is_let_go=True)
            plain = [str(m.pk) for m in members if m.plan is None]
            planned = [m for m in members if m.plan is not None]
            new = changes(self.db, planned) if planned else []
            holding.let_go(self.db, HOLD, plain, new)
        self._end_runs()

    def _end_runs(self) -> None:
        runs = WorkflowRun.objects.using(self.db.database)
        left = self.members.filter(run=OuterRef("pk"), is_open=True)
        over = runs.running().filter(pk__in=list(self.runs)).filter(~Exists(left))
        ids = list(over.values_list("pk", flat=True))
        if not ids:
            return
        now = self.db.now()
        for id, state in self._ends_of_runs(ids).items():
            run = self.runs[id]
            run.state, run.finished_at, run.is_announced = state, now, False
            run.save(using=self.db.database, update_fields=END_FIELDS)

    def _ends_of_runs(self, ids: Sequence[UUID]) -> dict[UUID, str]:
        jobs = self.members.filter(run__in=ids, kind=Kind.JOB).order_by()
        failures = jobs.filter(outcome__in=FAILURES, is_forgiven=False)
        failed = set(failures.values_list("run", flat=True).distinct())
        asked = [id for id in ids if self.runs[id].cancel_reason is not None]
        prevented = jobs.filter(run__in=asked, outcome=Outcome.CANCELLED)
        stopped = set(prevented.values_list("run", flat=True).distinct())
        states = dict.fromkeys(ids, RunState.SUCCEEDED.value)
        states |= dict.fromkeys(failed, RunState.FAILED.value)
        return states | dict.fromkeys(stopped, RunState.CANCELLED.value)


def _lets_pass(when: int, each: Settled) -> bool:
    is_success = each.outcome == Outcome.SUCCEEDED
    if when == When.ALWAYS:
        return True
    if when == When.FAILURE:
        return each.outcome in FAILURES
    return is_success or (
        each.outcome in FAILURES and each.member.policy == Policy.IGNORE
    )


def _because_of(parent: WorkflowMember) -> str:
    return parent.why or _said(parent.name, parent.outcome)


def _said(name: str, outcome: str) -> str:
    return f"{name} is {outcome}"[:WHY_LENGTH]
