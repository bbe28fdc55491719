"""
``manage.py windlass_logs``: the log of a process, line by line, while it runs or after.

A job that runs a process stands for that; of any other it shows what is known of its
attempts. Exit codes: 0 when done; 1 if there is no such process or job; 2 for a model
or an id that is none, and for flags that make no sense.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.apps import apps
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from windlass import conf_values as values
from windlass.exceptions import ConfigurationError
from windlass.management import job_lines
from windlass.management.plain import plain
from windlass.models import Job
from windlass.processes.attending import TASK
from windlass.processes.models import BaseProcess


class Command(BaseCommand):
    """Show the log of a process or a job."""

    help = (
        "Show the log of a process (a model and a primary key), or of a job (its id)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add("what", metavar="MODEL|JOB_ID", help="As reports.Report, or a job's id.")
        add("pk", metavar="PK", nargs="?", help="The primary key of the process.")
        add("--follow", action="store_true", help="Go on until its end.")
        add("--grep", metavar="PATTERN", help="Only lines in which this is found.")
        add("--since", metavar="AGE", help="Only lines of the last seconds, 10m, 2h.")
        add("--attempt", type=int, help="Only lines of this attempt.")
        add("--json", action="store_true", help="One JSON object a line.")
        add("--database", default=None, help="The database that has it.")

    def handle(self, **given: Any) -> None:
        try:
            keep = _filters(given)
        except ConfigurationError as error:
            raise CommandError(str(error), returncode=2) from error
        lines = _lines(given)
        show = _as_json if given["json"] else _as_text
        try:
            for line in lines:
                if all(wanted(line) for wanted in keep):
                    self.stdout.write(show(line))
                    self.stdout.flush()
        except KeyboardInterrupt:
            return


def _lines(given: dict[str, Any]) -> Iterator[Any]:
    what, pk, database = given["what"], given["pk"], given["database"]
    if pk is None:
        job = _job(what, database)
        process = _process_of(job)
        if process is None:
            return job_lines.lines(job, follow=given["follow"])
    else:
        process = _process(what, pk, database)
    return process.stream() if given["follow"] else _stored(process)


def _job(id: str, database: str | None) -> Job:
    try:
        job = job_lines.find(id, database)
    except ValueError as error:
        raise CommandError(
            f"{error} Give that, or a process's model and its primary key.",
            returncode=2,
        ) from error
    if job is None:
        raise CommandError(f"There is no job {id}.")
    return job


def _process_of(job: Job) -> BaseProcess | None:
    """The process that a job runs; None if it runs none, or that is gone."""
    if job.task_path != TASK:
        return None
    label, pk, database, _run = job.args
    try:
        model: Any = apps.get_model(label)
    except (LookupError, ValueError):
        return None
    found: BaseProcess | None
    found = model._base_manager.using(database).filter(pk=pk).first()
    return found


def _process(label: str, pk: str, database: str | None) -> BaseProcess:
    try:
        model = apps.get_model(label)
    except (LookupError, ValueError) as error:
        raise CommandError(f"MODEL {label}: {error}", returncode=2) from error
    if not issubclass(model, BaseProcess):
        raise CommandError(f"MODEL {label} is not a BaseProcess.", returncode=2)
    rows = model._base_manager.using(database)
    try:
        process: BaseProcess | None = rows.filter(pk=pk).first()
    except (ValueError, ValidationError) as error:
        raise CommandError(f"PK {pk!r} is no key of {label}.", returncode=2) from error
    if process is None:
        raise CommandError(f"There is no {label} with the key {pk}.")
    return process


def _stored(process: BaseProcess) -> Iterator[Any]:
    after = 0
    while lines := process.tail(after):
        yield from lines
        after = lines[-1].sequence


def _filters(given: dict[str, Any]) -> list[Any]:
    keep: list[Any] = []
    if given["grep"] is not None:
        try:
            pattern = re.compile(given["grep"])
        except re.error as error:
            raise ConfigurationError(f"--grep: {error}") from error
        # What was left out may have been what is looked for.
        keep.append(lambda line: line.left_out or pattern.search(line.message))
    if given["since"] is not None:
        age: timedelta = values.age(given["since"], "--since")
        since = timezone.now() - age
        keep.append(lambda line: line.created >= since)
    if given["attempt"] is not None:
        keep.append(lambda line: line.attempt == given["attempt"])
    return keep


def _as_text(line: Any) -> str:
    moment = line.created
    if timezone.is_aware(moment):
        moment = timezone.localtime(moment)
    # A log must not be able to do things to a terminal.
    text = plain(line.message)
    time = moment.isoformat(sep=" ", timespec="milliseconds")
    return f"{line.sequence:>6} {time} {line.level:<7} {line.stream:<7} {text}"


def _as_json(line: Any) -> str:
    return json.dumps(
        {
            "sequence": line.sequence,
            "created": line.created.isoformat(),
            "level": line.level,
            "stream": line.stream,
            "attempt": line.attempt,
            "left_out": line.left_out,
            "message": line.message,
        }
    )
