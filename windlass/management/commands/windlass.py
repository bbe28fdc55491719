"""
``manage.py windlass``: the runtime of one backend, in the foreground.

Exit codes: 0 after a graceful stop, a drain or ``--max-jobs``; 1 if a part failed;
2 for options that make no sense.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, connections

import windlass
from windlass import conf, db
from windlass.conf_file import FILE
from windlass.conf_recurring import SKIP_RECURRING, skips_recurring
from windlass.exceptions import ConfigurationError
from windlass.management.backend import lacks, options_of
from windlass.runtime.child import die_with_parent
from windlass.runtime.launch import Topology, launch
from windlass.runtime.outage import Outage
from windlass.runtime.reload import RELOADED_BY, run_with_reload
from windlass.runtime.stop_signals import StopAsked, StopSignals


class Command(BaseCommand):
    """Start the supervisor, its workers and the dispatcher."""

    help = "Run background jobs: supervisor, workers and dispatcher of one backend."
    # Whether the process ends with this command, as it does not after call_command().
    ends_the_process = False

    def run_from_argv(self, argv: list[str]) -> None:
        """Run as a program of its own."""
        self.ends_the_process = True
        super().run_from_argv(argv)

    def add_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add("--backend", default=None, help="Alias in TASKS; default: the first.")
        add("--config", metavar="FILE", help=f"Options in TOML; default: {FILE}.")
        add("--mode", choices=["fork", "async"], help="Processes, or threads of one.")
        add("--queues", help='Selectors with commas, in order: "mail,import*,*".')
        add("--processes", type=int, help="Worker processes.")
        add("--threads", type=int, help="Threads of each worker process.")
        only = parser.add_mutually_exclusive_group()
        only.add_argument("--only-work", action="store_true", help="Workers alone.")
        only.add_argument(
            "--only-dispatch", action="store_true", help="The dispatcher alone."
        )
        add(
            "--skip-recurring",
            action="store_true",
            help=f"Fire no schedules; also said by {SKIP_RECURRING}=1.",
        )
        add("--drain", action="store_true", help="End when no job is ready.")
        add("--max-jobs", type=int, help="End after this many jobs.")
        add(
            "--autoreload",
            action="store_true",
            default=None,
            help="Restart when code changes; default: under DEBUG, unless it ends "
            "by itself.",
        )
        add("--no-autoreload", action="store_false", dest="autoreload")

    def execute(self, *args: Any, **given: Any) -> str | None:
        """
        Hear the signals that ask to stop, before anything may wait or take long.

        The file of options is named here because Django's checks read it.
        """
        if given.get("config"):
            conf.use_file(given["config"])
        with StopSignals(for_good=self.ends_the_process) as self.signals:
            try:
                return super().execute(*args, **given)
            except StopAsked:
                self.stderr.write("Stopped before anything had started.")
        return None

    def handle(self, **given: Any) -> None:
        try:
            options = self._options(given)
            topology = Topology(
                work=not given["only_dispatch"],
                dispatch=not given["only_work"],
                drain=given["drain"],
                max_jobs=given["max_jobs"],
                recurring=not (skips_recurring() or given["skip_recurring"]),
            )
        except ConfigurationError as error:
            raise CommandError(str(error), returncode=2) from error
        if given["max_jobs"] is not None and given["max_jobs"] < 1:
            raise CommandError("--max-jobs must be at least 1.", returncode=2)
        # Taken out, because a task may start a runtime of its own.
        reloader = os.environ.pop(RELOADED_BY, None)
        if reloader:
            die_with_parent(int(reloader))
        elif self._wants_reload(given):
            sys.exit(run_with_reload(self.stderr.write))
        check = partial(self._check_migrations, options.database_alias)
        _persist(check, options.database_alias)
        if given["verbosity"] > 0:
            self._say_hello(options, topology)
        try:
            code = launch(options, topology, self.signals)
        except ConfigurationError as error:
            raise CommandError(str(error), returncode=2) from error
        if given["verbosity"] > 0:
            self.stderr.write("Stopped.")
        if code:
            sys.exit(code)

    def check(self, *args: Any, **kwargs: Any) -> None:
        """Run Django's checks; on MariaDB and MySQL they ask the database."""
        _persist(partial(super().check, *args, **kwargs), DEFAULT_DB_ALIAS)

    def _options(self, given: dict[str, Any]) -> conf.Options:
        return options_of(given["backend"]).with_command_line(
            **{n: given[n] for n in ("mode", "queues", "processes", "threads")}
        )

    def _wants_reload(self, given: dict[str, Any]) -> bool:
        if given["autoreload"] is not None:
            return bool(given["autoreload"])
        return settings.DEBUG and not given["drain"] and given["max_jobs"] is None

    def _check_migrations(self, database: str) -> None:
        missing = lacks(database)
        connections[database].close()
        if missing:
            raise CommandError(missing)

    def _say_hello(self, options: conf.Options, topology: Topology) -> None:
        database = connections[options.database_alias]
        lines = [
            f"Windlass {windlass.__version__}, backend {options.alias!r} on "
            f"{database.display_name} ({options.database_alias}), "
            f"mode {options.mode}, process {os.getpid()}."
        ]
        for worker in options.workers if topology.work else ():
            lines.append(
                f"Workers: {worker.processes} x {worker.threads} threads, "
                f"{worker.async_concurrency} coroutines; "
                f"queues {', '.join(worker.queues)}."
            )
        end = "Ends when no job is ready." if topology.drain else "Stop with Ctrl-C."
        self.stderr.write("\n".join([*lines, end]))


def _persist(action: Callable[[], object], database: str) -> None:
    # A machine may start this before its database; every loop waits, so this does.
    Outage("windlass", db.dialect(database)).persist(action, wait=_sleep)


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False
