"""Jobs and schedules as ``windlass_jobs`` shows them: a table, a story, or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.utils import timezone

from windlass.conf import Options
from windlass.management.plain import plain
from windlass.models import Job, Schedule

# What is shown of a job, in order, and what of it is shown only where there is some.
STORY = (
    *("id", "name", "state", "reason", "queue_name", "priority", "backend_alias"),
    *("args", "kwargs", "enqueued_at", "run_after", "started_at", "finished_at"),
    *("attempts", "max_attempts", "crashes", "timeout", "unique_key"),
    *("concurrency_key", "return_value", "progress", "metadata", "workspace"),
    *("steps", "step", "worker_ids"),
)
ALWAYS = ("id", "name", "state", "queue_name", "attempts", "args", "kwargs")


def row(job: Job) -> dict[str, Any]:
    """A job's line in a list."""
    return {
        "id": str(job.pk),
        "state": job.state,
        "reason": job.reason,
        "queue": job.queue_name,
        "attempts": f"{job.attempts}/{job.max_attempts}",
        "enqueued": job.enqueued_at,
        "run_after": job.run_after,
        "name": job.name,
    }


def schedules(options: Options) -> list[dict[str, Any]]:
    """The schedules of a backend, those that are due next first, paused ones last."""
    rows = Schedule.objects.using(options.database_alias).filter(
        backend_alias=options.alias
    )
    found = sorted(rows, key=lambda s: (s.next_due_at is None, s.next_due_at, s.key))
    return [
        {
            "key": each.key,
            "schedule": each.schedule,
            "next": each.next_due_at,
            "last": each.last_fired_at,
            "state": "on" if each.enabled else "paused",
            "task": each.task_path,
            "error": each.last_error,
        }
        for each in found
    ]


def as_table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Lines of columns, the last of which has no end."""
    if not rows:
        yield "None."
        return
    cells = [list(rows[0])]
    cells += [[_cell(value) for value in each.values()] for each in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        padded = (c.ljust(width) for c, width in zip(line, widths, strict=True))
        yield "  ".join(padded).rstrip()


def as_json(rows: list[dict[str, Any]]) -> Iterator[str]:
    """One object a line."""
    for each in rows:
        yield json.dumps(
            {
                name: value.isoformat() if isinstance(value, datetime) else value
                for name, value in each.items()
            }
        )


def story(job: Job) -> dict[str, Any]:
    """All that is known of a job."""
    found = {name: getattr(job, name) for name in STORY}
    found["errors"] = [error.traceback for error in job.errors]
    found["history"] = job.history or []
    return found


def as_story(found: dict[str, Any]) -> Iterator[str]:
    """A line for each thing that there is to say, and tracebacks at the end."""
    for name in STORY:
        value = found[name]
        if name in ALWAYS or value not in (None, "", [], {}):
            yield f"{name:<16} {_shown(value)}"
    for number, text in enumerate(found["errors"], start=1):
        yield f"\nerror {number}"
        yield plain(text.rstrip())


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=True, default=str)
    return _cell(value)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        local = timezone.localtime(value) if timezone.is_aware(value) else value
        return local.isoformat(sep=" ", timespec="seconds")
    # One line each, whatever is in it.
    return plain(value).replace("\n", " ").replace("\t", " ")
