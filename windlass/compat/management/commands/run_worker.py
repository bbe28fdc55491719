"""
``manage.py run_worker``: the runtime, by the flags of django-task-worker.

Takes the flags of ``manage.py windlass`` too, hears the same signals and has the same
exit codes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.core.management.base import CommandError, CommandParser

from windlass.conf import Options
from windlass.jobs.policies import MAX_ATTEMPTS
from windlass.management.commands.windlass import Command as Runtime


class Command(Runtime):
    """Run the tasks of all queues in threads of one worker process."""

    help = "Run tasks, as the worker of django-task-worker did."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.set_defaults(queues="*", processes=1)
        parser.add_argument(
            "--retry",
            type=int,
            metavar="N",
            help="Attempts after the first, for functions whose task does not say "
            "max_attempts; default: MAX_ATTEMPTS of the settings less one.",
        )
        parser.add_argument(
            "--concurrency", type=int, default=1, metavar="N", help="Threads."
        )

    def handle(self, **given: Any) -> None:
        retry = given["retry"]
        if retry is not None and not 0 <= retry < MAX_ATTEMPTS:
            allowed = f"from 0 to {MAX_ATTEMPTS - 1}"
            raise CommandError(f"--retry must be {allowed}.", returncode=2)
        if given["concurrency"] < 1:
            raise CommandError("--concurrency must be at least 1.", returncode=2)
        super().handle(**given)

    def _options(self, given: dict[str, Any]) -> Options:
        threads = given["threads"] or given["concurrency"]
        options = super()._options({**given, "threads": threads})
        if given["retry"] is None:
            return options
        return replace(options, max_attempts=given["retry"] + 1)
