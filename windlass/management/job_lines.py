"""
What is known of a job's attempts, as the lines of a log.

What a task says goes where the project's logging goes, and the database has none of it.
It has when each attempt began, how it ended, and the traceback of what went wrong; so a
job is shown by ``windlass_logs`` as a process is. Lines are only ever added.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import count
from typing import Any, NamedTuple

from windlass import api, conf
from windlass.models import Job
from windlass.models.view import parse_id
from windlass.runtime.child import how_it_ended
from windlass.runtime.memory import megabytes

# Seconds between looks at a job that has not ended.
EVERY = 1.0


class JobLine(NamedTuple):
    """One line, with the columns of a process's."""

    sequence: int
    created: datetime
    level: str
    attempt: int
    message: str
    stream: str = "system"
    left_out: int = 0


# The place in the history and what of it is said, and all of a line but its number.
Said = tuple[tuple[int, str], tuple[datetime, str, int, str]]


def find(id: str, database: str | None) -> Job | None:
    """A job of any backend by its id; ValueError for what is none."""
    parsed = parse_id(id)
    if parsed is None:
        raise ValueError(f"{id!r} is no id of a job.")
    options = [conf.options(alias) for alias in conf.aliases()]
    places = dict.fromkeys(each.database_alias for each in options)
    for place in [database] if database else places:
        job = Job.objects.using(place).filter(pk=parsed).first()
        if job is not None:
            return job
    return None


def lines(job: Job, *, follow: bool) -> Iterator[JobLine]:
    """The lines of a job so far; with ``follow`` also those to come, until its end."""
    shown: set[tuple[int, str]] = set()
    numbers = count(1)
    database, found = job._state.db, job
    while True:
        for key, said in _said(found):
            if key not in shown:
                shown.add(key)
                yield JobLine(next(numbers), *said)
        if not follow or found.finished_at is not None:
            return
        try:
            api.wait_for_completion(job.pk, EVERY, backend_alias=job.backend_alias)
            found = Job.objects.using(database).get(pk=job.pk)
        except Job.DoesNotExist:
            # It was deleted meanwhile.
            return


def _said(job: Job) -> Iterator[Said]:
    history: list[dict[str, Any]] = job.history or []
    text = f"Enqueued on the queue {job.queue_name}: {job.name}."
    yield (0, "enqueued"), (job.enqueued_at, "info", 0, text)
    for place, entry in enumerate(history):
        yield from _said_of(place, entry)
    is_told = bool(history) and history[-1]["attempt"] == job.attempts
    if job.started_at is not None and not is_told:
        began = f"Attempt {job.attempts} began."
        key = (len(history), "began")
        yield key, (job.started_at, "info", job.attempts, began)
    if job.finished_at is not None:
        level = "info" if job.state == "succeeded" else "warning"
        why = f" ({job.reason})" if job.reason else ""
        said = f"The job has {job.state}{why}."
        if job.state in ("cancelled", "discarded"):
            said = f"The job was {job.state}{why}."
        yield (-1, "end"), (job.finished_at, level, job.attempts, said)


def _said_of(place: int, entry: dict[str, Any]) -> Iterator[Said]:
    attempt = entry["attempt"]
    began, ended = (
        datetime.fromisoformat(entry[name]) for name in ("started_at", "ended_at")
    )
    text = f"Attempt {attempt} began."
    yield (place, "began"), (began, "info", attempt, text)
    if traceback := entry.get("traceback"):
        yield (place, "traceback"), (ended, "error", attempt, traceback.rstrip())
    said = f"Attempt {attempt} ended on {entry['worker']}"
    said += f": {entry['cause']}." if entry["cause"] else " as it should."
    if "exit_code" in entry:
        said += f" Its process {how_it_ended(entry['exit_code'])}. It had used "
        said += f"{megabytes(entry['peak_memory'])} and "
        said += f"{entry['cpu_seconds']:g} s of CPU time."
    level = "warning" if entry["cause"] else "info"
    yield (place, "ended"), (ended, level, attempt, said)
