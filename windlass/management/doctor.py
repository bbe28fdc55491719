"""
The doctor: look at everything a backend stands on, and say what to do.

Each check gives back findings; one that fails says so itself, so the others are still
made. Nothing is changed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Literal

from django.core.checks import ERROR
from django.utils import timezone

import windlass
from windlass import checks, db
from windlass.conf import Options
from windlass.db import diagnosis
from windlass.management.backend import lacks
from windlass.management.finding import Check, Finding
from windlass.management.limits import lanes_with_shares, limits
from windlass.models import Node, Schedule
from windlass.runtime import health

logger = logging.getLogger("windlass")

SKEW = 2.0
OLD_SNAPSHOT = 300.0
# Seconds; a scheduler looks every few.
OVERDUE = 120
MOST_SHOWN = 20
MANY_LANES = 500
MANY_DEAD_ROWS = 1_000_000


def examine(options: Options) -> list[Finding]:
    """Make every check of a backend; without a database, those that need none."""
    findings = _made("options", _options, options)
    reached = _made("database", _database, options)
    findings += reached
    if any(each.level == "problem" for each in reached):
        return findings
    for name, check in CHECKS.items():
        findings += _made(name, check, options)
    return findings


def _made(name: str, check: Check, options: Options) -> list[Finding]:
    try:
        return list(check(options))
    except Exception as error:
        logger.debug("windlass_doctor: the check %s failed.", name, exc_info=True)
        said = " ".join(str(error).split())
        return [
            Finding(
                name,
                "problem",
                f"This check failed: {type(error).__name__}: {said}",
                f"See that the database {options.database_alias!r} answers and that "
                f'"manage.py migrate --database {options.database_alias}" was run.',
            )
        ]


def _options(options: Options) -> Iterator[Finding]:
    messages = checks.check_backend(options.alias)
    for message in messages:
        level: Literal["warning", "problem"] = (
            "problem" if message.level >= ERROR else "warning"
        )
        yield Finding("options", level, message.msg, message.hint or "")
    if not messages:
        yield Finding("options", "ok", "The options agree with each other.")


def _database(options: Options) -> Iterator[Finding]:
    own = db.dialect(options.database_alias)
    said = f"{options.database_alias!r} is {diagnosis.version(own)}"
    yield Finding("database", "ok", f"{said}, by {diagnosis.driver(own)}.")
    missing = lacks(options.database_alias)
    if missing:
        yield Finding("database", "problem", missing, "Run the migrations.")


def _settings(options: Options) -> Iterator[Finding]:
    said = diagnosis.settings(db.dialect(options.database_alias))
    shown = ", ".join(f"{name} = {value}" for name, value in said.items())
    wrong = [name for name, value in said.items() if value not in WELL[name][0]]
    for name in wrong:
        _values, means, do = WELL[name]
        yield Finding("settings", "warning", f"{name} is {said[name]}: {means}", do)
    if not wrong:
        yield Finding("settings", "ok", shown or "Nothing to look at here.")


# What a setting is to be, what it means if it is not, and what to do then.
WELL = {
    "journal_mode": (
        ("wal", "memory"),
        "readers and the writer wait for each other.",
        "Start manage.py windlass once, which sets WAL; it needs a local disk.",
    ),
    "synchronous_commit": (
        ("on", "remote_apply", "remote_write", "local"),
        "after a crash of the server, a job that may not run twice could.",
        "Set synchronous_commit to on for the role of the workers.",
    ),
    "isolation": (
        ("READ-COMMITTED",),
        "claims of several workers lock more rows than they take.",
        'Set in its entry of DATABASES: "OPTIONS": {"isolation_level": "read '
        'committed"}.',
    ),
    "flush_log": (
        ("1",),
        "after a crash of the server, the last commits may be gone.",
        "Set innodb_flush_log_at_trx_commit to 1.",
    ),
}


def _pooler(options: Options) -> Iterator[Finding]:
    if db.dialect(options.database_alias).keeps_sessions():
        yield Finding("pooler", "ok", "Connections lead to the server itself.")
        return
    yield Finding(
        "pooler",
        "warning",
        "Connections go through a transaction pooler: workers find jobs by polling.",
        "Give the workers a direct connection if jobs should start sooner.",
    )


def _clock(options: Options) -> Iterator[Finding]:
    own = db.dialect(options.database_alias)
    own.now()  # The connection is open from here on.
    asked = time.monotonic()
    theirs = own.now()
    half = (time.monotonic() - asked) / 2
    skew = (timezone.now() - theirs).total_seconds() - half
    if abs(skew) <= SKEW:
        yield Finding(
            "clock", "ok", f"It differs from the database's by {skew:+.1f} s."
        )
        return
    yield Finding(
        "clock",
        "warning",
        f"This host's clock differs from the database's by {skew:+.1f} s: what it "
        "enqueues with run_after starts so much later or sooner.",
        "Let both hosts set their clocks by NTP.",
    )


def _nodes(options: Options) -> Iterator[Finding]:
    picture = health.look(options, max_age=options.process_alive_threshold, deep=True)
    reasons = health.reasons(picture, deep=True)
    for reason in reasons:
        yield Finding("nodes", "problem", reason, "As it says.")
    live = [node for node in picture.nodes if picture.lives(node)]
    if not reasons:
        yield Finding("nodes", "ok", f"{len(live)} live nodes serve every queue.")
    yield from _versions(live)


def _versions(live: list[Node]) -> Iterator[Finding]:
    others = sorted({node.version for node in live} - {windlass.__version__})
    if others:
        yield Finding(
            "versions",
            "warning",
            f"Windlass {windlass.__version__} is installed here, and nodes run "
            f"{', '.join(others)}.",
            "Restart the runtimes that have the other version.",
        )
    elif live:
        yield Finding("versions", "ok", f"All run Windlass {windlass.__version__}.")


def _schedules(options: Options) -> Iterator[Finding]:
    due = db.dialect(options.database_alias).now() - timedelta(seconds=OVERDUE)
    own = Schedule.objects.using(options.database_alias)
    schedules = own.filter(backend_alias=options.alias, enabled=True)
    late = schedules.filter(next_due_at__lt=due).count()
    if late:
        yield Finding(
            "schedules",
            "problem",
            f"{late} schedules were due more than {OVERDUE} s ago and did not fire.",
            "See that a dispatcher lives and runs without --skip-recurring; its log "
            "has the error.",
        )
    for schedule in schedules.exclude(last_error="")[:MOST_SHOWN]:
        yield Finding(
            "schedules",
            "warning",
            f"{schedule.key}: {schedule.last_error.strip().splitlines()[-1]}",
            "Correct the schedule or its task; the others fire.",
        )
    following = schedules.exclude(next_due_at=None).order_by("next_due_at").first()
    if following is not None and not late:
        said = f"The next is {following.key}, at {following.next_due_at}."
        yield Finding("schedules", "ok", said)


def _lanes(options: Options) -> Iterator[Finding]:
    lanes = db.dialect(options.database_alias).lanes(options.alias)
    said = f"{len(lanes)} lanes (queue and priority) have jobs."
    if len(lanes) <= MANY_LANES:
        yield Finding("lanes", "ok", said)
    else:
        yield Finding(
            "lanes",
            "warning",
            f"{said} Each claim looks at all of those it serves.",
            "Use fewer queues and priorities: a key is not a queue.",
        )


def _snapshots(options: Options) -> Iterator[Finding]:
    held = diagnosis.oldest_snapshot(db.dialect(options.database_alias))
    if held is not None and held > OLD_SNAPSHOT:
        yield Finding(
            "snapshots",
            "warning",
            f"A transaction has been open for {held:.0f} s: rows of jobs that ended "
            "since cannot be cleared away, and claims walk over them.",
            "Find it in pg_stat_activity, and end it.",
        )
    elif held is not None:
        yield Finding("snapshots", "ok", f"The oldest snapshot is {held:.0f} s old.")


def _tables(options: Options) -> Iterator[Finding]:
    found = diagnosis.tables(db.dialect(options.database_alias))
    for name, (size, dead) in sorted(found.items()):
        said = f"{name} takes {size / 2**20:.0f} MB, with {dead} dead rows."
        if dead <= MANY_DEAD_ROWS:
            yield Finding("tables", "ok", said)
        else:
            yield Finding(
                "tables",
                "warning",
                f"{said} Vacuum does not keep up.",
                "See that autovacuum runs, and that no transaction stays open.",
            )


CHECKS: dict[str, Check] = {
    "settings": _settings,
    "pooler": _pooler,
    "clock": _clock,
    "nodes": _nodes,
    "schedules": _schedules,
    "lanes": _lanes,
    "shares": lanes_with_shares,
    "limits": limits,
    "snapshots": _snapshots,
    "tables": _tables,
}
