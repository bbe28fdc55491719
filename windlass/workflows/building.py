"""
Writing a workflow down: what is to be called, and what waits for what.

Nothing is stored before ``enqueue``. A member can only depend on members that were
added before it, so a workflow cannot go round in a circle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from windlass.exceptions import EnqueueError
from windlass.jobs.arguments import dump_value
from windlass.signatures import Signature
from windlass.twins import twin

if TYPE_CHECKING:
    from windlass.workflows.models import WorkflowRun

POLICIES = ("stop", "continue", "ignore")
NAME_LENGTH = 100
Condition = Literal["success", "always", "failure"]


@dataclass(eq=False, slots=True)
class Member:
    """
    One member of a workflow, to depend on or to pass on.

    As an argument of another member it stands for its return value.
    """

    flow: Workflow
    name: str
    # The call; a flow that is nested; or None where others only meet.
    what: Signature | Workflow | None
    waits_for: list[tuple[Member, Condition]] = field(default_factory=list)
    on_failure: str | None = None
    # Whose result is the first argument, and whether as values or as outcomes.
    feed: Member | None = None
    takes_outcomes: bool = False
    is_callback: bool = False

    def __repr__(self) -> str:
        return f"<Member {self.name!r} of {self.flow.name!r}>"


class Workflow:
    """
    A named graph of jobs that wait for jobs.

    ``workspace`` is a dict of JSON that all its members share. ``on_failure`` says
    what follows when a member fails for good:

    - ``"stop"``: nothing that has not started yet starts any more;
    - ``"continue"``: what depends on it is skipped, everything else goes on;
    - ``"ignore"``: the others go on as if it had succeeded, with the result None.

    Raises ValueError or TypeError for what is none of these.
    """

    # Whether what this flow follows in a chain hands its result to its first members.
    takes_input = False

    def __init__(
        self,
        name: str = "workflow",
        *,
        workspace: Mapping[str, Any] | None = None,
        on_failure: str = "stop",
    ) -> None:
        self.name = _checked_name(name)
        self.workspace = _checked_workspace(workspace)
        self.on_failure = _checked_policy(on_failure)
        self.members: list[Member] = []
        # Where the members of a group meet.
        self.join: Member | None = None
        self._names: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Workflow {self.name!r} with {len(self.members)} members>"

    def add(
        self,
        what: Any,
        /,
        *args: Any,
        depends_on: Iterable[Member] | Member = (),
        name: str | None = None,
        on_failure: str | None = None,
        **kwargs: Any,
    ) -> Member:
        """
        Add a call, or a whole workflow, that waits for other members to succeed.

        ``what`` is a task with its arguments, a signature (``task.s(...)``, whose
        keywords are all the task's own), or a Workflow, chain or group. A member among
        the arguments stands for its return value, and is waited for. ``name`` is
        unique within the flow; without it the function's name is used, with a number.
        ``on_failure`` is this member's own policy. Gives back the member.

        Raises EnqueueError for a member of another workflow and for what is no task,
        ValueError for a name or a policy that means nothing.
        """
        made = self._what(what, args, kwargs)
        before = [depends_on] if isinstance(depends_on, Member) else list(depends_on)
        if isinstance(made, Signature):
            before += members_in([made.args, made.kwargs])
        for member in before:
            self._check_own(member)
        member = Member(self, self._name(made, name), made)
        member.waits_for = [(each, "success") for each in dict.fromkeys(before)]
        if on_failure is not None:
            member.on_failure = _checked_policy(on_failure)
        self.members.append(member)
        return member

    def enqueue(self) -> WorkflowRun:
        """
        Store the run with all its jobs, in the caller's transaction, and give it back.

        A few statements however many members there are; all of it or nothing. What
        depends on nothing is ready with the commit. Raises EnqueueError for a member
        that ``task.enqueue`` would refuse. A workflow may be enqueued many times.
        """
        from windlass.workflows.storing import store

        return store(self)

    aenqueue = twin(enqueue)

    def _what(
        self, what: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Signature | Workflow:
        if isinstance(what, Signature | Workflow):
            if args or kwargs:
                raise TypeError(
                    f"{self.name}: {what!r} has its arguments already, so it takes no "
                    f"others: {[*args, *kwargs]}."
                )
            return what
        if not hasattr(what, "module_path"):
            raise EnqueueError(
                f"{self.name}: {what!r} cannot be a member. Add a task, task.s(...), a "
                "chain, a group or a Workflow."
            )
        return Signature(what, args, kwargs)

    def _check_own(self, member: Any) -> None:
        if not isinstance(member, Member):
            raise EnqueueError(
                f"{self.name}: depends_on holds members, as add() gives them back, not "
                f"{member!r}."
            )
        if member.flow is not self:
            raise EnqueueError(
                f"{self.name}: {member!r} belongs to another workflow. Add that "
                "workflow to this one and depend on the member which that gives."
            )

    def _name(self, what: Signature | Workflow, name: str | None) -> str:
        if name is not None:
            if _checked_name(name) in self._names:
                raise ValueError(f"{self.name}: there is a member {name!r} already.")
            self._names[name] = 1
            return name
        base = what.name if isinstance(what, Workflow) else _function_name(what)
        return self.free_name(base)

    def free_name(self, base: str) -> str:
        """A name that no member has yet: this one, or with a number."""
        number = self._names.get(base, 0) + 1
        name = base if number == 1 else f"{base}-{number}"
        while name in self._names:
            number += 1
            name = f"{base}-{number}"
        self._names[base] = number
        self._names.setdefault(name, 1)
        return name


def members_in(value: Any) -> list[Member]:
    """Every member among some arguments, however deep in lists and dicts."""
    found, rest = [], [value]
    while rest:
        item = rest.pop()
        if isinstance(item, Member):
            found.append(item)
        elif isinstance(item, Mapping):
            rest.extend(item.values())
        elif isinstance(item, list | tuple):
            rest.extend(reversed(item))
    return found


def _function_name(signature: Signature) -> str:
    return str(signature.task.module_path).rpartition(".")[2][:NAME_LENGTH]


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= NAME_LENGTH or "/" in name:
        raise ValueError(
            f"A name must be a text of 1 to {NAME_LENGTH} characters without a slash, "
            f"not {name!r}."
        )
    return name


def _checked_policy(policy: Any) -> str:
    if policy not in POLICIES:
        raise ValueError(
            f"on_failure must be one of {', '.join(POLICIES)}, not {policy!r}."
        )
    return str(policy)


def _checked_workspace(workspace: Any) -> dict[str, Any]:
    if not isinstance(workspace, Mapping | None):
        raise TypeError(f"workspace must be a dict of JSON, not {workspace!r}.")
    found = dict(workspace or {})
    dump_value(found, "workspace")
    return found
