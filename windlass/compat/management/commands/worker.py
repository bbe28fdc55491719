"""
``manage.py worker``: the runtime for one queue, by the flags of django-db-queue.

Takes the flags of ``manage.py windlass`` too, hears the same signals and has the same
exit codes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.core.management.base import CommandError, CommandParser

from windlass import conf_values as values
from windlass.conf import Options
from windlass.exceptions import ConfigurationError
from windlass.management.commands.windlass import Command as Runtime


class Command(Runtime):
    """Run the jobs of one queue, one after another."""

    help = "Run the jobs of one queue, one after another."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.set_defaults(processes=1, threads=1)
        parser.add_argument(
            "queue_name", nargs="?", default="default", help='Default: "default".'
        )
        parser.add_argument(
            "--rate_limit",
            type=float,
            default=0,
            metavar="SECONDS",
            help="Wait so long between two jobs; default: 0.",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="Say what would run, and end."
        )

    def handle(self, **given: Any) -> None:
        try:
            (own,) = self._options(given).workers
        except ConfigurationError as error:
            raise CommandError(str(error), returncode=2) from error
        said = f'Starting job worker for queue "{", ".join(own.queues)}"'
        if own.job_pause:
            said += f" with rate limit of one job per {own.job_pause:g} second(s)"
        self.stdout.write(said)
        if not given["dry_run"]:
            super().handle(**given)

    def _options(self, given: dict[str, Any]) -> Options:
        queues = given["queues"] or given["queue_name"]
        options = super()._options({**given, "queues": queues})
        pause = values.seconds(given["rate_limit"], "--rate_limit")
        workers = tuple(replace(own, job_pause=pause) for own in options.workers)
        return replace(options, workers=workers)
