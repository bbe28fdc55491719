"""
The table of verbs: every state a job can be in and every way it can move.

Each line is one function of ``lifecycle``, and nothing else moves a job.
"""

from __future__ import annotations

from typing import NamedTuple

from windlass.models.jobs import ENDS, State


class Transition(NamedTuple):
    """One verb: the states it leaves, the states it leads to, who says it."""

    verb: str
    leaves: tuple[str, ...]
    leads_to: tuple[str, ...]
    said_by: str


WAITING = (State.SCHEDULED, State.BLOCKED, State.READY)
LIVE = (*WAITING, State.RUNNING)
AGAIN = (State.READY, State.SCHEDULED)
REVIVABLE = (State.FAILED, State.CANCELLED, State.DISCARDED)

TRANSITIONS = (
    Transition("enqueue", (), WAITING, "backend, api, schedules, workflows"),
    Transition("refuse", (), (State.DISCARDED,), "limits"),
    Transition("claim", (State.READY,), (State.RUNNING,), "worker"),
    Transition("complete", (State.RUNNING,), (State.SUCCEEDED,), "flusher"),
    Transition("advance", (State.RUNNING,), (State.READY,), "flusher"),
    Transition("fail", (State.RUNNING,), (State.SCHEDULED, State.FAILED), "flusher"),
    Transition("snooze", (State.RUNNING,), (State.SCHEDULED,), "task"),
    Transition("release", (State.RUNNING,), AGAIN, "worker, supervisor, limits"),
    Transition(
        "rescue",
        (State.RUNNING,),
        (*AGAIN, State.FAILED, State.CANCELLED),
        "supervisor, janitor",
    ),
    Transition("expire", (State.RUNNING,), (State.DISCARDED,), "worker, limits"),
    Transition(
        "block", (State.READY, State.SCHEDULED), (State.BLOCKED,), "limits, workflows"
    ),
    Transition("divert", (State.RUNNING,), (State.BLOCKED,), "limits"),
    Transition("hand_on", (State.BLOCKED,), (State.RUNNING,), "limits"),
    Transition("unblock", (State.BLOCKED,), (State.READY,), "limits, workflows"),
    Transition("hasten", (State.SCHEDULED,), (State.READY,), "user"),
    Transition("cancel", LIVE, (State.CANCELLED,), "user, workflow, task"),
    Transition("discard", (*WAITING, State.FAILED), (State.DISCARDED,), "user, limits"),
    Transition("retry", REVIVABLE, AGAIN, "user"),
    Transition("repeat", ENDS, (State.BLOCKED,), "workflows"),
    Transition("prune", ENDS, (), "janitor"),
)
