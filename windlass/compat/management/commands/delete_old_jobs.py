"""
``manage.py delete_old_jobs``: ended jobs go, by django-db-queue's flag.

Counts from the end of a job. Exit codes as ``manage.py windlass_prune``.
"""

from __future__ import annotations

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    """Delete what ended so many hours ago."""

    help = "Delete jobs that ended more than some hours ago, failed ones as well."

    def add_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add("--hours", type=float, default=24, metavar="H", help="Default: 24.")
        add("--backend", default=None, help="Alias in TASKS; default: the first.")

    def handle(self, **given: Any) -> None:
        if not 0 <= given["hours"] < float("inf"):
            raise CommandError("--hours must be 0 or more.", returncode=2)
        age = f"{given['hours']:f}h"
        call_command(
            "windlass_prune",
            older_than=age,
            failed_older_than=age,
            recurring_older_than=None,
            backend=given["backend"],
            stdout=self.stdout,
        )
        self.stdout.write("Deleted old jobs")
