"""
What a kind of jobs is: a task, how often it is drawn, and what is promised of it.

The kinds themselves are in ``work``. A kind is known by the path of its task, so
that a job can be judged without the storm having seen its id: the answer to an
enqueue may be lost, and tasks enqueue more. Kinds whose policy this engine does not
have are left out.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import windlass
from windlass.task import Task

QUEUES = ("default", "mail", "reports")

KINDS: dict[str, "Kind"] = {}


@dataclass(frozen=True)
class Kind:
    """A task, how often it is drawn and with what, and what may be expected of it."""

    task: Any
    share: float
    arguments: Callable[[Random], list]
    # How it ends if nothing befalls it.
    ends: str = "succeeded"
    reason: str = ""
    # The errors it raises by itself.
    errors: tuple[str, ...] = ()
    # Whether its body asks the database, which may be away.
    queries: bool = False
    # Whether its effects and its end are one.
    atomic: bool = False
    cancels: bool = False
    # How many jobs may run at a time of those with the same first argument.
    limit: int | None = None

    @property
    def may_repeat(self):
        """Whether an attempt that came to no end may be followed by another."""
        if self.task.on_lost is not None:
            return self.task.on_lost == "retry"
        return self.task.max_attempts > 1


def has(*policies):
    """Whether this engine's tasks have these policies."""
    return set(policies) <= {field.name for field in dataclasses.fields(Task)}


def kind(share, arguments, *, policy=None, where=True, **promises):
    """Declare a task as a kind of jobs, if the engine has what it takes."""
    policy = {"max_attempts": 1, **(policy or {})}

    def declare(function):
        if not where or not has(*policy):
            return function
        limit = promises.get("limit")
        limited = function
        if limit is not None:
            key = f"{function.__name__} {{key}}"
            limited = windlass.concurrency(key=key, limit=limit)(function)
        task = windlass.task(takes_context=True, **policy)(limited)
        KINDS[task.module_path] = Kind(task, share, arguments, **promises)
        return task

    return declare


def draw(random, only=None):
    """Draw one call: a task with its queue and priority, and its arguments."""
    kinds = [KINDS[name] for name in only] if only else list(KINDS.values())
    (chosen,) = random.choices(kinds, [kind.share for kind in kinds])
    task = chosen.task.using(
        queue_name=random.choice(QUEUES), priority=random.choice((-5, 0, 0, 5))
    )
    return task, chosen.arguments(random), {}
