"""
Rows of the two tables, made from and into the small values of ``records``.

For what is said with the ORM; the statements of each database do the same in SQL.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from windlass.db.records import (
    CLAIMED_COLUMNS,
    KEPT_COLUMNS,
    Advanced,
    Claimed,
    Ended,
    NewJob,
)
from windlass.models.jobs import EndedJob, LiveJob

JSON_COLUMNS = ("args", "kwargs", "history", "metadata", "policy")


def new_row(job: NewJob, now: datetime) -> LiveJob:
    """The row of a new job."""
    return LiveJob(
        id=uuid.UUID(job.id),
        backend_alias=job.backend_alias,
        queue_name=job.queue_name,
        nice=job.nice,
        task_path=job.task_path,
        args=json.loads(job.args),
        kwargs=json.loads(job.kwargs),
        max_attempts=job.max_attempts,
        metadata=load(job.metadata),
        policy=load(job.policy),
        enqueued_at=now,
        available_at=max(now, job.run_after) if job.run_after else now,
        share=job.share,
        name=job.name,
        plan=load(job.plan),
        workspace=load(job.workspace),
        hold="",
        **dict.fromkeys(("claim", "attempts", "crashes"), 0),
    )


def claimed(row: LiveJob, *, claims: int = 0) -> Claimed:
    """A row as the value that names its hold, after so many more claims."""
    values = {name: getattr(row, name) for name in CLAIMED_COLUMNS}
    values.update({name: _dump(values[name]) for name in JSON_COLUMNS})
    values["id"] = str(row.id)
    values["attempts"] += claims
    values["claim"] += claims
    return Claimed(**values)


def advanced_columns(step: Advanced, now: datetime) -> dict[str, Any]:
    """What changes in a row that goes back to waiting at its next step."""
    return {
        **dict.fromkeys(("node", "started_at")),
        "available_at": now,
        "task_path": step.task_path,
        "attempts": 0,
        "max_attempts": step.max_attempts,
        **{n: load(getattr(step, n)) for n in ("policy", "history", "workspace")},
    }


def ended_row(
    row: LiveJob, end: Ended, moment: Callable[[float], datetime]
) -> EndedJob:
    """The row of a job that ended; ``moment`` says seconds as this project does."""
    kept = {name: getattr(row, name) for name in KEPT_COLUMNS}
    if end.workspace is not None:
        kept["workspace"] = load(end.workspace)
    return EndedJob(
        **kept,
        attempts=row.attempts - end.attempt_back,
        crashes=row.crashes + end.crashed,
        state=end.state,
        reason=end.reason,
        started_at=None if end.started_at is None else moment(end.started_at),
        finished_at=moment(end.finished_at),
        return_value=load(end.return_value),
        history=load(end.history) or row.history,
    )


def delete_live(database: str, ids: Iterable[uuid.UUID]) -> None:
    """Delete rows of the hot table without collecting them first."""
    rows = LiveJob.objects.using(database).filter(id__in=list(ids))
    rows._raw_delete(database)


def load(text: str | None) -> Any:
    """What a JSON column holds, of its text."""
    return None if text is None else json.loads(text)


def _dump(value: Any) -> str | None:
    return None if value is None else json.dumps(value)
