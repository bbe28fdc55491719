"""What a job's history says: one JSON object for each attempt that is over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from windlass.tasks_api import TaskError


def worker_id(node: int) -> str:
    """The name by which results know a node."""
    return f"{node:016x}"


def workers_of(
    history: Sequence[dict[str, Any]] | None, attempts: int, node: int | None
) -> list[str]:
    """One worker id for each attempt; ``node`` is the last one's, if it has one."""
    past: list[str] = []
    for attempt in history or ():
        # Attempts are counted anew after each step.
        past = [] if attempt.get("done") else [*past, attempt["worker"]]
    if node is not None and attempts > len(past):
        past.append(worker_id(node))
    return past


def errors_of(history: Sequence[dict[str, Any]] | None) -> list[TaskError]:
    """Django's view of the errors among past attempts."""
    return [
        TaskError(exception_class_path=attempt["error"], traceback=attempt["traceback"])
        for attempt in history or ()
        if attempt.get("error")
    ]
