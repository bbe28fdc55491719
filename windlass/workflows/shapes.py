"""Chains and groups: workflows whose shape has a name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from windlass.exceptions import EnqueueError
from windlass.signatures import Signature
from windlass.workflows.building import Condition, Member, Workflow


class Shape(Workflow):
    """A workflow whose first members are given what comes before it in a chain."""

    takes_input = True


def chain(
    *calls: Signature | Workflow,
    name: str = "chain",
    workspace: Mapping[str, Any] | None = None,
    on_failure: str = "stop",
) -> Workflow:
    """
    One after another; each is given the result of the one before as first argument.

    A call made with ``task.si(...)`` is not, and neither is a nested Workflow that is
    neither chain nor group. Otherwise as ``Workflow``. Raises EnqueueError for what
    is no call, and for a chain of nothing.
    """
    flow = Shape(name, workspace=workspace, on_failure=on_failure)
    last: Member | None = None
    for call in _calls(flow, calls):
        member = flow.add(call, depends_on=() if last is None else last)
        member.feed = last
        last = member
    if last is None:
        raise EnqueueError(f"{name}: a chain needs at least one call.")
    return flow


def group(
    calls: Iterable[Signature | Workflow],
    *,
    on_complete: Signature | Workflow | None = None,
    on_success: Signature | Workflow | None = None,
    on_failure: Signature | Workflow | None = None,
    policy: str = "continue",
    name: str = "group",
    workspace: Mapping[str, Any] | None = None,
) -> Workflow:
    """
    All at the same time, and then what is to follow once all of them are over.

    ``on_success`` runs if all succeeded, and is given the list of their results, in
    order. ``on_failure`` runs if one did not, ``on_complete`` in any case; these are
    given a list of outcomes, dicts with ``name``, ``state`` and ``value``. ``policy``
    is what ``on_failure`` is to a Workflow. A group of nothing completes at once. In a
    chain, the members are given the result of what comes before the group, and the
    list of their results is what comes after it is given.
    """
    flow = Shape(name, workspace=workspace, on_failure=policy)
    members = [flow.add(call) for call in _calls(flow, calls)]
    join = flow.join = Member(flow, flow.free_name("join"), None)
    join.waits_for = [(member, "success") for member in members]
    flow.members.append(join)
    callbacks: list[tuple[Signature | Workflow | None, Condition]] = [
        (on_complete, "always"),
        (on_success, "success"),
        (on_failure, "failure"),
    ]
    for call, when in callbacks:
        if call is not None:
            member = flow.add(*_calls(flow, [call]))
            member.waits_for = [(join, when)]
            member.feed, member.takes_outcomes = join, when != "success"
            member.is_callback = True
    return flow


def _calls(flow: Workflow, calls: Iterable[Any]) -> list[Signature | Workflow]:
    found = list(calls)
    for call in found:
        if not isinstance(call, Signature | Workflow):
            raise EnqueueError(
                f"{flow.name}: {call!r} is no call. Write task.s(...), or nest a "
                "chain, a group or a Workflow."
            )
    return found
