"""
``manage.py windlass_jobs``: list jobs and schedules, show one, and move those meant.

Which jobs are meant is said by ids, or by filters; never all without ``--all``. Exit
codes: 0 when done; 1 if one that was named is not there, or cannot be moved so; 2 for
flags that make no sense, with nothing moved.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from windlass import conf_values as values
from windlass.exceptions import ConfigurationError
from windlass.management import job_listing as listing
from windlass.management.backend import options_of
from windlass.management.job_moves import VERBS, Verb, Wanted, move
from windlass.management.plain import plain
from windlass.models import State


class Command(BaseCommand):
    """List, show and move jobs."""

    help = "List jobs and schedules, show a job, retry, cancel, discard or run jobs."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
        listed = _common(actions.add_parser("list", help="Jobs, the newest first."))
        _filters(listed, list(State.values))
        listed.add_argument("--limit", default=20, help="So many at most; default: 20.")
        shown = _common(actions.add_parser("show", help="All of one job."))
        shown.add_argument("id", metavar="ID")
        _common(actions.add_parser("schedules", help="Schedules and their next runs."))
        for name, verb in VERBS.items():
            about = f"{verb.help}; by default: {', '.join(verb.states)}."
            moved = _common(actions.add_parser(name, help=about, description=about))
            moved.add_argument("ids", metavar="ID", nargs="*")
            _filters(moved, [*verb.states, *verb.more_states])
            add = moved.add_argument
            add("--all", action="store_true", help="All of them, without a filter.")
            add("--dry-run", action="store_true", help="Count them and move nothing.")
            if name == "cancel":
                add("--reason", default="", help="Kept with each job.")

    def handle(self, **given: Any) -> None:
        try:
            options = options_of(given["backend"])
            limit = values.whole(_number(given.get("limit", 1)), "--limit")
            wanted = Wanted.of(options.alias, options.database_alias, given)
        except ConfigurationError as error:
            raise CommandError(str(error), returncode=2) from error
        action, as_json = given["action"], given["as_json"]
        if action == "list":
            rows = [listing.row(job) for job in wanted.jobs()[:limit]]
            self._table(rows, as_json)
        elif action == "schedules":
            self._table(listing.schedules(options), as_json)
        elif action == "show":
            self._show(wanted, as_json)
        else:
            self._move(VERBS[action], wanted, as_json)

    def _table(self, rows: list[dict[str, Any]], as_json: bool) -> None:
        for line in listing.as_json(rows) if as_json else listing.as_table(rows):
            self.stdout.write(line)

    def _show(self, wanted: Wanted, as_json: bool) -> None:
        job = wanted.jobs().first()
        if job is None:
            raise CommandError(f"There is no job {wanted.ids[0]}.")
        found = listing.story(job)
        if as_json:
            self.stdout.write(json.dumps(found, default=str))
            return
        for line in listing.as_story(found):
            self.stdout.write(line)

    def _move(self, verb: Verb, wanted: Wanted, as_json: bool) -> None:
        done = move(verb, wanted)
        if as_json:
            said = {"count": done.count, "refused": done.refused}
            self.stdout.write(json.dumps({**said, "dry_run": wanted.is_dry}))
        else:
            said_of = f"Would {verb.name}" if wanted.is_dry else verb.done
            jobs = "1 job" if done.count == 1 else f"{done.count:,} jobs"
            self.stdout.write(f"{said_of} {jobs}.")
            for why in done.refused.values():
                self.stderr.write(plain(why))
        if done.refused:
            raise SystemExit(1)


def _common(parser: Any) -> Any:
    # Django's own flags follow the command's name, here they follow the action as well.
    add = parser.add_argument
    add("--backend", default=None, help="Alias in TASKS; default: the first.")
    add("--json", action="store_true", dest="as_json", help="Print JSON.")
    return parser


def _filters(parser: argparse.ArgumentParser, states: list[str]) -> None:
    add = parser.add_argument
    add("--queue", metavar="NAME", help="Only jobs of this queue.")
    add("--task-path", metavar="PATH", help="Only jobs of this task.")
    add(
        "--state",
        action="append",
        choices=states,
        help="Only jobs in this state; may be given again.",
    )
    add(
        "--older-than",
        metavar="AGE",
        help="Only jobs that were enqueued so long ago: seconds, or 30m, 12h, 7d, 4w.",
    )


def _number(text: Any) -> Any:
    return int(text) if str(text).isascii() and str(text).isdigit() else text
