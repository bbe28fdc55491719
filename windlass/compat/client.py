"""The two functions of ``django_task_worker.client``, which give back its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from windlass import api
from windlass.compat.models import DatabaseTask

__all__ = ["create_task", "wait_for_completion"]


def create_task(
    name: str,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    timeout: float | None = 300,
    **more: Any,
) -> DatabaseTask:
    """Enqueue a call by its dotted name: see ``windlass.api.create_task``."""
    task: DatabaseTask = DatabaseTask.objects.create(
        name, args, kwargs, timeout, **more
    )
    return task


def wait_for_completion(
    task_id: object, timeout: float | None = 300, **more: Any
) -> DatabaseTask | None:
    """Wait until a task has ended: see ``windlass.api.wait_for_completion``."""
    job = api.wait_for_completion(task_id, timeout, **more)
    return None if job is None else DatabaseTask.of(job)
