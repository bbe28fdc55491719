"""
What members hand on: the calls of those whose turn has come, with results filled in.

A value is what a job returned, or None if it did not succeed; that of a gate is its
one predecessor's, or the list of all of theirs, in order.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from copy import deepcopy
from datetime import datetime
from typing import Any
from uuid import UUID

from windlass.backend import KEYED, WindlassBackend
from windlass.db import Dialect, NewJob
from windlass.db.holds import Change
from windlass.jobs import resolving
from windlass.jobs.keys import LIMITED
from windlass.models import LiveJob
from windlass.tasks_api import task_backends
from windlass.workflows.models import (
    Kind,
    Outcome,
    When,
    WorkflowEdge,
    WorkflowMember,
)

BATCH = 500
READ = ("backend_alias", "queue_name", "task_path", "nice", "share", "policy")


class Values:
    """The values of members, looked up together."""

    def __init__(self, db: Dialect, wanted: Iterable[UUID]) -> None:
        self.members: dict[UUID, WorkflowMember] = {}
        self.parents: dict[UUID, list[UUID]] = {}
        self._edges = WorkflowEdge.objects.using(db.database)
        self._rows = WorkflowMember.objects.using(db.database)
        rest = set(wanted)
        while rest:
            gates = self._look_up(list(rest))
            rest = self._look_behind(gates) - self.members.keys()
        for parents in self.parents.values():
            parents.sort(key=lambda id: self.members[id].number)

    def _look_up(self, ids: Sequence[UUID]) -> list[UUID]:
        for start in range(0, len(ids), BATCH):
            rows = self._rows.filter(pk__in=ids[start : start + BATCH])
            self.members |= {row.pk: row for row in rows.defer("plan")}
        return [id for id in ids if self.members[id].kind != Kind.JOB]

    def _look_behind(self, gates: Sequence[UUID]) -> set[UUID]:
        rows = self._edges.filter(child__in=gates, when=When.SUCCESS)
        for child, parent in rows.values_list("child", "parent"):
            self.parents.setdefault(child, []).append(parent)
        return {id for gate in gates for id in self.parents.get(gate, ())}

    def value(self, id: UUID) -> Any:
        """The value of one member."""
        member = self.members[id]
        if member.kind == Kind.JOB:
            return member.value if member.outcome == Outcome.SUCCEEDED else None
        values = [self.value(parent) for parent in self.parents.get(id, ())]
        if member.kind == Kind.LIST:
            return values
        return values[0] if values else None

    def outcomes(self, id: UUID) -> list[dict[str, Any]]:
        """How each of those that meet at a gate ended, and its value."""
        return [
            {
                "name": self.members[parent].name,
                "state": str(self.members[parent].outcome),
                "value": self.value(parent),
            }
            for parent in self.parents.get(id, ())
        ]


def changes(db: Dialect, members: Sequence[WorkflowMember]) -> list[Change]:
    """What is new about the jobs of members that have a plan and may go on."""
    plans: dict[UUID, dict[str, Any]] = {m.pk: m.plan or {} for m in members}
    takes = {
        id: [(path, UUID(source), kind) for path, source, kind in plan["takes"]]
        for id, plan in plans.items()
    }
    values = Values(db, {source for each in takes.values() for _p, source, _k in each})
    live = LiveJob.objects.using(db.database).only(*READ)
    rows: dict[UUID, LiveJob] = {}
    for start in range(0, len(members), BATCH):
        some = [member.pk for member in members[start : start + BATCH]]
        rows |= {row.pk: row for row in live.filter(pk__in=some)}
    found = []
    for member in members:
        if member.pk in rows:
            for path, source, kind in takes[member.pk]:
                value = values.value if kind == "value" else values.outcomes
                _put(plans[member.pk], path, deepcopy(value(source)))
            found.append(_change(rows[member.pk], plans[member.pk]))
    return found


def _put(plan: dict[str, Any], path: Sequence[Any], value: Any) -> None:
    place: Any = plan
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value


def _change(row: LiveJob, plan: dict[str, Any]) -> Change:
    due = None if plan["due"] is None else datetime.fromisoformat(plan["due"])
    policy, share = dict(row.policy or {}), row.share
    if plan["expires"] is not None:
        from_when = max(time.time(), due.timestamp() if due else 0.0)
        policy["expires_at"] = from_when + plan["expires"]
    if plan["takes"]:
        policy, share = _keyed(row, policy, plan)
    return Change(str(row.pk), due, plan["args"], plan["kwargs"], policy, share)


def _keyed(
    row: LiveJob, policy: dict[str, Any], plan: dict[str, Any]
) -> tuple[dict[str, Any], str]:
    """The policy and the share of a job, with the keys that its new call makes."""
    backend = task_backends[row.backend_alias]
    task: Any = resolving.task_for(
        row.task_path, row.backend_alias, row.queue_name, -row.nice
    )
    is_fair = getattr(task, "fair_by", None) is not None
    if not isinstance(backend, WindlassBackend) or not (
        is_fair or vars(task.func).keys() & LIMITED
    ):
        return policy, row.share
    blank = dict.fromkeys(NewJob._fields, "")
    job = NewJob(**{**blank, "policy": json.dumps(policy), "share": KEYED})  # type: ignore[arg-type]
    keyed = backend.keyed(job, (task, plan["args"], plan["kwargs"]))
    return json.loads(keyed.policy or "{}"), keyed.share
