"""
`manage.py demo`: survey the standard library with a real runtime, and report.

The command enqueues the jobs, starts `manage.py windlass` as a process of its
own, watches the database until every job has ended, has the runtime run the
aggregate, stops it with SIGTERM and prints what the database says.
"""

import platform
import time

from django import get_version
from django.core.management.base import BaseCommand, CommandError

from stdlib_survey import programs, report, survey, workdir
from stdlib_survey.progress import ProgressLine

POLL_SECONDS = 0.2


class Command(BaseCommand):
    help = "Measure every module of the standard library, one job for each."

    def add_arguments(self, parser):
        parser.add_argument(
            "--timeout", type=float, default=120, help="Seconds until it gives up."
        )

    def handle(self, *, timeout, **options):
        programs.treat_sigterm_as_ctrl_c()
        self.deadline = time.monotonic() + timeout
        with workdir.locked() as directory:
            workdir.forget_everything()
            workdir.prepare()
            self.say(
                f"Python {platform.python_version()}, Django {get_version()}, "
                f"{workdir.database_name()}"
            )
            current = self.start_survey()
            self.log = directory / "windlass.log"
            with (
                open(self.log, "wb") as log,
                programs.manage("windlass", stdout=log) as runtime,
            ):
                self.say(f"Started `manage.py windlass` as process {runtime.pid}.")
                line = ProgressLine(self.stdout, current.size + 1)
                self.watch(runtime, current, current.size, line)
                current.summarise()
                line.finish(self.watch(runtime, current, current.size + 1, line))
                code = programs.stop(runtime)
        self.say(f"Sent SIGTERM to the runtime: it stopped with exit code {code}.\n")
        report.write(current, self.stdout, self.style)
        if code != 0:
            raise CommandError(f"The runtime's log says why: {self.log}")
        self.refuse_surprises(current)

    def start_survey(self):
        found = survey.modules()
        before = time.monotonic()
        current = survey.start(found)
        seconds = time.monotonic() - before
        states = ", ".join(f"{n} {state}" for state, n in current.counts().items())
        self.say(f"Enqueued {current.size} jobs in {seconds:.2f} s: {states}")
        return current

    def watch(self, runtime, current, expected, line):
        """Follow the survey until so many jobs have ended; return the last counts."""
        while survey.ended(counts := current.counts()) < expected:
            line.update(counts)
            if programs.ended_within(runtime, POLL_SECONDS):
                raise CommandError(
                    f"The runtime ended with exit code {runtime.returncode} "
                    f"before its work was done. Its log: {self.log}"
                )
            if time.monotonic() > self.deadline:
                raise CommandError(f"Gave up waiting. The runtime's log: {self.log}")
        return counts

    def refuse_surprises(self, current):
        """Fail if anything but the one job that cannot succeed did not succeed."""
        others = current.unexpected()
        if others:
            raise CommandError(
                f"{len(others)} jobs did not succeed and should have, the first is "
                f"{others[0].id} for {others[0].kwargs}: {others[0].errors}"
            )

    def say(self, text):
        self.stdout.write(text)
        self.stdout.flush()
