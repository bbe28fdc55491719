"""
``manage.py windlass_prune``: delete ended jobs and old marks of one backend now.

Without ages the options apply, and what they keep for ever is kept. Never touches a job
that has not ended. Exit codes: 0 when done; 2 for options that make no sense.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from windlass import conf_values as values
from windlass import db, firing
from windlass.conf import Options
from windlass.db import Dialect
from windlass.exceptions import ConfigurationError
from windlass.jobs.retention import FAILED, FINISHED, Pruning, Retention
from windlass.management.backend import options_of


class Command(BaseCommand):
    """Delete jobs that ended long enough ago."""

    help = "Delete ended jobs of one backend, in batches, the oldest first."

    def add_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add("--backend", default=None, help="Alias in TASKS; default: the first.")
        add(
            "--older-than",
            metavar="AGE",
            help="Succeeded, cancelled and discarded jobs that ended so long ago: "
            "seconds, or 30m, 12h, 7d, 4w; default: clear_finished_jobs_after.",
        )
        add(
            "--failed-older-than",
            metavar="AGE",
            help="Failed jobs; default: clear_failed_jobs_after.",
        )
        add(
            "--recurring-older-than",
            metavar="AGE",
            help="Marks of schedules; default: clear_recurring_executions_after.",
        )
        add("--task-key", metavar="KEY", help="Only marks of this schedule.")
        add("--queue", metavar="NAME", help="Only jobs of this queue.")
        add("--task-path", metavar="PATH", help="Only jobs of this task.")
        add("--batch-size", type=int, default=500, help="Jobs in one transaction.")
        add("--dry-run", action="store_true", help="Count them and delete nothing.")

    def handle(self, **given: Any) -> None:
        try:
            options = options_of(given["backend"])
            ages = self._ages(options, given)
            marks_age = _age(
                given, "recurring_older_than", options.clear_recurring_executions_after
            )
            batch = values.whole(given["batch_size"], "--batch-size")
        except ConfigurationError as error:
            raise CommandError(str(error), returncode=2) from error
        dialect = db.dialect(options.database_alias)
        verb = "Would delete" if given["dry_run"] else "Deleted"
        for what, (states, age) in ages.items():
            if age is None:
                self.stdout.write(f"{what.capitalize()} jobs are kept.")
                continue
            pruning = Pruning(
                dialect,
                Retention(
                    backend_alias=options.alias,
                    states=states,
                    age=age,
                    queue_name=given["queue"],
                    task_path=given["task_path"],
                ),
                batch,
            )
            count = pruning.count() if given["dry_run"] else pruning.all()
            self.stdout.write(f"{verb} {count} {what} jobs.")
        if marks_age is not None:
            before = dialect.now() - marks_age
            which = {"before": before, "key": given["task_key"]}
            count = firing.old_marks(dialect, options.alias, **which).count()
            if not given["dry_run"]:
                count = _delete_marks(dialect, options.alias, limit=batch, **which)
            self.stdout.write(f"{verb} {count} marks of schedules.")

    def _ages(
        self, options: Options, given: dict[str, Any]
    ) -> dict[str, tuple[tuple[str, ...], timedelta | None]]:
        finished = options.clear_finished_jobs_after
        if not options.preserve_finished_jobs:
            finished = 0.0
        return {
            "finished": (FINISHED, _age(given, "older_than", finished)),
            "failed": (
                FAILED,
                _age(given, "failed_older_than", options.clear_failed_jobs_after),
            ),
        }


def _delete_marks(dialect: Dialect, backend_alias: str, **which: Any) -> int:
    total = 0
    while count := firing.prune_marks(dialect, backend_alias, **which):
        total += count
    return total


def _age(
    given: dict[str, Any], name: str, configured: float | None
) -> timedelta | None:
    if given[name] is not None:
        return values.age(given[name], "--" + name.replace("_", "-"))
    return None if configured is None else timedelta(seconds=configured)
