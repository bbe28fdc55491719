"""
``manage.py windlass_health``: whether the runtime of one backend lives and can work.

Exit codes: 0 if it does; 1 with one line for each thing that is wrong; 2 for options
that make no sense. A database that does not answer is such a thing, no accident.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error, connections

from windlass import conf_values as values
from windlass.conf import Options
from windlass.exceptions import ConfigurationError
from windlass.management.backend import lacks, options_of
from windlass.runtime import health


class Command(BaseCommand):
    """Say whether a backend is healthy, and why not."""

    help = "Exit with 0 if the runtime of a backend is healthy, else 1 with reasons."
    # A probe runs often, and asks about the runtime rather than about the settings.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add("--backend", default=None, help="Alias in TASKS; default: the first.")
        add(
            "--deep",
            action="store_true",
            help="Also ask whether each part can work: loops turn, queues are served, "
            "every running job has an owner, no worker is stuck.",
        )
        add(
            "--max-age",
            type=float,
            metavar="SECONDS",
            help="A sign of life is good for so long; default: "
            "process_alive_threshold.",
        )
        add("--require-version", metavar="VERSION", help="What all nodes must run.")
        add("--json", action="store_true", help="Print one JSON object.")

    def handle(self, **given: Any) -> None:
        try:
            options = options_of(given["backend"])
            max_age = options.process_alive_threshold
            if given["max_age"] is not None:
                max_age = values.seconds_above_0(given["max_age"], "--max-age")
        except ConfigurationError as error:
            raise CommandError(str(error), returncode=2) from error
        picture, reasons = None, []
        try:
            with _answer_within(max_age):
                picture = health.look(options, max_age=max_age, deep=given["deep"])
        except (Error, NoAnswer) as error:
            reasons = [_why_there_is_no_picture(options, error)]
        else:
            reasons = health.reasons(
                picture, deep=given["deep"], version=given["require_version"]
            )
        if given["json"]:
            self._say_json(options, picture, reasons)
        else:
            self._say(options, picture, reasons)
        if reasons:
            sys.exit(1)

    def _say(
        self, options: Options, picture: health.Picture | None, reasons: list[str]
    ) -> None:
        for reason in reasons:
            self.stdout.write(reason)
        if picture is not None and not reasons:
            live = sum(map(picture.lives, picture.nodes))
            self.stdout.write(
                f"Healthy: the backend {options.alias!r} has {live} live nodes."
            )

    def _say_json(
        self, options: Options, picture: health.Picture | None, reasons: list[str]
    ) -> None:
        nodes = picture.nodes if picture else ()
        answer = {
            "healthy": not reasons,
            "backend": options.alias,
            "nodes": [health.described(picture, node) for node in nodes if picture],
            "reasons": reasons,
        }
        self.stdout.write(json.dumps(answer))


class NoAnswer(Exception):
    """The database has taken longer than any sign of life is good for."""


@contextmanager
def _answer_within(seconds: float) -> Iterator[None]:
    # A server that hangs neither answers nor fails. Only the main thread can be woken
    # by an alarm, and an alarm that somebody else has set is theirs.
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return

    def ring(*_: Any) -> None:
        raise NoAnswer(f"no answer within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before or signal.SIG_DFL)


def _why_there_is_no_picture(options: Options, error: BaseException) -> str:
    database = options.database_alias
    connection = connections[database]
    if isinstance(error, Error) and connection.connection is not None:
        # It answers, and refuses: most often because its tables are not there.
        try:
            missing = lacks(database)
        except Error:
            missing = None
        if missing:
            return missing
    connection.close()
    said = " ".join(str(error).split())
    return (
        f"The database {database!r} does not answer: {said}. See that its server runs "
        f"and that DATABASES[{database!r}] says where."
    )
