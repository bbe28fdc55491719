"""``manage.py queue_depth``: how many jobs wait, as django-db-queue says it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from windlass.exceptions import ConfigurationError
from windlass.management.backend import options_of
from windlass.models import Job


class Command(BaseCommand):
    """Print the depths of some queues."""

    help = "Print how many jobs wait in each of these queues, on one line."

    def add_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add("queue_name", nargs="*", default=["default"], help='Default: "default".')
        add(
            "--exclude_future_jobs",
            action="store_true",
            help="Leave out what waits for a time.",
        )
        add("--backend", default=None, help="Alias in TASKS; default: the first.")

    def handle(self, **given: Any) -> None:
        try:
            alias = options_of(given["backend"]).alias
        except ConfigurationError as error:
            raise CommandError(str(error), returncode=2) from error
        depths = Job.get_queue_depths(given["exclude_future_jobs"], backend_alias=alias)
        said = [f"{name}={depths.get(name, 0)}" for name in given["queue_name"]]
        self.stdout.write(" ".join(["event=queue_depths", *said]))
