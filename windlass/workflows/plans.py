"""
From a workflow as it was written to the members and edges of one run.

Nested flows become members of the same run, with gates where they begin and end, so
the engine knows one flat graph. A gate stands between any two crowds: ten thousand
that wait for ten thousand are twenty thousand edges, not a hundred million.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from windlass.exceptions import EnqueueError
from windlass.jobs.ids import uuid7
from windlass.signatures import Signature
from windlass.workflows.building import Member, Workflow
from windlass.workflows.models import Kind, Policy, When

MOST_LEVELS = 20
NAME_LENGTH = 255
WHEN = {
    "success": When.SUCCESS,
    "always": When.ALWAYS,
    "failure": When.FAILURE,
}
Path = list[str | int]


@dataclass(eq=False, slots=True)
class Planned:
    """A member of a run that is to be stored."""

    name: str
    kind: str
    scope: str
    policy: str
    is_callback: bool
    is_forgiven: bool
    call: tuple[Any, list[Any], dict[str, Any]] | None = None
    waits_for: list[tuple[Planned, int]] = field(default_factory=list)
    # Where in the call the value of which member belongs; "outcomes" or "value".
    takes: list[tuple[Path, Planned, str]] = field(default_factory=list)
    is_wanted: bool = False
    id: str = field(default_factory=uuid7)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a flow is nested: what its members inherit."""

    scope: str = "/"
    prefix: str = ""
    flows: tuple[Workflow, ...] = ()
    is_callback: bool = False
    is_forgiven: bool = False
    inputs: Sequence[Planned] = ()
    feed: Planned | None = None


class Plan:
    """The members of one run, in an order in which each comes after its parents."""

    def __init__(self, flow: Workflow) -> None:
        self.members: list[Planned] = []
        self.workspace: dict[str, Any] = {}
        self._flows = 0
        self._add_flow(flow, _Place(flows=(flow,)))
        _want([source for m in self.members for _path, source, _kind in m.takes])

    def _add_flow(self, flow: Workflow, place: _Place) -> dict[Member, Planned]:
        self._share(flow)
        roots = [member for member in flow.members if not member.waits_for]
        if len(place.inputs) > 1 and len(roots) > 1:
            gate = self._gate(flow, place, "start", Kind.ONE)
            gate.waits_for = [(each, When.SUCCESS) for each in place.inputs]
            place = replace(place, inputs=[gate])
        made: dict[Member, Planned] = {}
        for member in flow.members:
            made[member] = self._add(flow, member, made, place)
        return made

    def _add(
        self,
        flow: Workflow,
        member: Member,
        made: dict[Member, Planned],
        place: _Place,
    ) -> Planned:
        before: list[tuple[Planned, int]]
        before = [(made[each], WHEN[when]) for each, when in member.waits_for]
        if not before or member.is_callback:
            # A callback of a flow that never began has nothing to say.
            before += [(each, When.SUCCESS) for each in place.inputs]
        own = replace(place, is_callback=place.is_callback or member.is_callback)
        feed = made[member.feed] if member.feed else None
        if member.feed is None and flow.takes_input and not member.waits_for:
            feed = place.feed
        if isinstance(member.what, Workflow):
            return self._nest(flow, member, own, before, feed)
        planned = self._planned(flow, member, own)
        planned.waits_for = before
        if member.what is not None:
            _write_call(planned, member, member.what, made, feed)
        self.members.append(planned)
        return planned

    def _planned(self, flow: Workflow, member: Member, place: _Place) -> Planned:
        policy = member.on_failure or flow.on_failure
        name = f"{place.prefix}{member.name}"
        if len(name) > NAME_LENGTH:
            raise EnqueueError(f"The name {name!r} is over {NAME_LENGTH} long.")
        return Planned(
            name=name,
            kind=Kind.LIST if member.what is None else Kind.JOB,
            scope=place.scope,
            policy=policy,
            is_callback=place.is_callback,
            is_forgiven=place.is_forgiven or policy == Policy.IGNORE,
        )

    def _nest(
        self,
        flow: Workflow,
        member: Member,
        place: _Place,
        before: Sequence[tuple[Planned, int]],
        feed: Planned | None,
    ) -> Planned:
        nested = member.what
        assert isinstance(nested, Workflow)
        if nested in place.flows or len(place.flows) > MOST_LEVELS:
            raise EnqueueError(
                f"{flow.name}: {nested!r} is nested in itself, or more than "
                f"{MOST_LEVELS} levels deep."
            )
        if any(when != When.SUCCESS for _each, when in before):
            # Its own members wait for success, so the condition needs a gate.
            gate = self._gate(flow, place, f"{member.name} (if)", Kind.ONE)
            gate.waits_for, before = list(before), [(gate, When.SUCCESS)]
        policy = member.on_failure or flow.on_failure
        is_forgiven = place.is_forgiven or policy == Policy.IGNORE
        self._flows += 1
        inner = replace(
            place,
            scope=f"{place.scope}{self._flows}/",
            prefix=f"{place.prefix}{member.name}/",
            flows=(*place.flows, nested),
            is_forgiven=is_forgiven,
            inputs=[each for each, _when in before],
            feed=feed,
        )
        made = self._add_flow(nested, inner)
        end = self._end(flow, member, replace(place, is_forgiven=is_forgiven), made)
        # A flow of nothing is over when what it follows is.
        end.waits_for = end.waits_for or list(before)
        return end

    def _end(
        self,
        flow: Workflow,
        member: Member,
        place: _Place,
        made: Mapping[Member, Planned],
    ) -> Planned:
        """The gate that stands for a nested flow: it is over, and this is its value."""
        nested = member.what
        assert isinstance(nested, Workflow)
        if nested.join is not None:
            leaves = [nested.join]
        else:
            awaited = {each for m in nested.members for each, _when in m.waits_for}
            leaves = [each for each in nested.members if each not in awaited]
        kind = Kind.ONE if len(leaves) == 1 else Kind.LIST
        gate = self._gate(flow, place, member.name, kind)
        if not member.is_callback:
            gate.policy = member.on_failure or flow.on_failure
        gate.waits_for = [(made[leaf], When.SUCCESS) for leaf in leaves]
        return gate

    def _gate(self, flow: Workflow, place: _Place, name: str, kind: str) -> Planned:
        gate = Planned(
            name=f"{place.prefix}{name}"[:NAME_LENGTH],
            kind=kind,
            scope=place.scope,
            policy=Policy.CONTINUE,
            is_callback=place.is_callback,
            is_forgiven=True,
        )
        self.members.append(gate)
        return gate

    def _share(self, flow: Workflow) -> None:
        for key, value in flow.workspace.items():
            if key in self.workspace and self.workspace[key] != value:
                raise EnqueueError(
                    f"{flow.name}: the flows of one run share one workspace, and two "
                    f"of them begin with different values for {key!r}."
                )
            self.workspace[key] = value


def _write_call(
    planned: Planned,
    member: Member,
    call: Signature,
    made: Mapping[Member, Planned],
    feed: Planned | None,
) -> None:
    args, kwargs = list(call.args), dict(call.kwargs)
    if feed is not None and not call.is_immutable:
        args.insert(0, None)
        kind = "outcomes" if member.takes_outcomes else "value"
        planned.takes.append((["args", 0], feed, kind))
    found: list[tuple[Path, Member]] = []
    args = _without_members(args, ["args"], found)
    kwargs = _without_members(kwargs, ["kwargs"], found)
    planned.takes += [(path, made[each], "value") for path, each in found]
    planned.call = (call.task, args, kwargs)


def _without_members(value: Any, path: Path, found: list[tuple[Path, Member]]) -> Any:
    """The same value with None for each member, whose places are noted."""
    if isinstance(value, Member):
        found.append((path, value))
        return None
    if isinstance(value, list | tuple):
        return [
            _without_members(item, [*path, place], found)
            for place, item in enumerate(value)
        ]
    if isinstance(value, Mapping):
        return {
            key: _without_members(item, [*path, key], found)
            for key, item in value.items()
        }
    return value


def _want(sources: list[Planned]) -> None:
    """Note whose values are to be kept: a gate's are those of who meets there."""
    rest, seen = list(sources), set()
    while rest:
        source = rest.pop()
        if source.id not in seen:
            seen.add(source.id)
            source.is_wanted = True
            if source.kind != Kind.JOB:
                rest += [p for p, when in source.waits_for if when == When.SUCCESS]
