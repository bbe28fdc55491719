"""``manage.py create_job``: a job of the setting JOBS, as django-db-queue made one."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from windlass.exceptions import EnqueueError
from windlass.models import Job


class Command(BaseCommand):
    """Enqueue one job by its name."""

    help = "Enqueue a job by its name in the setting JOBS."

    def add_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add("job_name", help="A name of JOBS.")
        add("--queue_name", default=None, help="Default: as its first step says.")
        add("--workspace", default=None, metavar="JSON", help="What it begins with.")

    def handle(self, **given: Any) -> None:
        try:
            job = Job.objects.create(
                name=given["job_name"],
                queue_name=given["queue_name"],
                workspace=self._workspace(given["workspace"]),
            )
        except EnqueueError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"Created job {job.id}, name={job.name}, workspace={job.workspace}"
        )

    def _workspace(self, text: str | None) -> Any:
        try:
            return None if text is None else json.loads(text)
        except ValueError as error:
            raise CommandError(f"--workspace is not JSON: {error}.") from error
