"""
The figures as a table beside their goals, and as JSON for whoever compares later.

A goal is a floor, or for times a ceiling, on a machine of two cores with PostgreSQL's
stock settings. Where the raw loop did the same work in the same run, the ratio to it
says more than the figure.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

PG, SQLITE, MARIADB = "postgresql", "sqlite", "mariadb"
RATIO_GOAL = 0.6
# In these units less is better.
CEILINGS = ("ms", "% core")
# Databases, then names, then every value that was measured.
Values = Mapping[str, Mapping[str, Sequence[float]]]


class Line(NamedTuple):
    """One line of the table: what, in which unit, and what it should reach where."""

    name: str
    title: str
    unit: str
    goals: dict[str, float] = {}


LINES = [
    Line(
        "drain_1", "drain, one worker process", "jobs/s", {PG: 20_000, SQLITE: 20_000}
    ),
    Line("drain_1_log_default", "  with Django's default log", "jobs/s", {PG: 14_000}),
    Line("drain_1_log_shown", "  with two log lines a job, written", "jobs/s"),
    Line("drain_1_defaults", "  with three threads, the default", "jobs/s"),
    Line(
        "drain_2", "drain, two worker processes", "jobs/s", {PG: 28_000, MARIADB: 6_000}
    ),
    Line("drain_2_log_default", "  with Django's default log", "jobs/s"),
    Line("drain_2_log_shown", "  with two log lines a job, written", "jobs/s"),
    Line("enqueue", "enqueue one by one, autocommit", "jobs/s", {PG: 2_600}),
    Line("enqueue_p50", "  median of a call", "ms"),
    Line("enqueue_p99", "  99th percentile", "ms", {PG: 1.0}),
    Line("enqueue_in_transaction", "  inside one transaction", "jobs/s", {PG: 5_000}),
    Line("enqueue_all", "enqueue_all of 10,000", "jobs/s", {PG: 90_000}),
    Line(
        "latency_p50", "idle: call to first line, median", "ms", {PG: 1.5, SQLITE: 15}
    ),
    Line("latency_p99", "  99th percentile", "ms", {PG: 6.0}),
    Line("coroutines", "2,000 coroutine tasks of 0.1 s", "jobs/s", {PG: 10_000}),
    Line("beside_scheduled", "drain beside 1,000,000 scheduled", "%", {PG: 95}),
    Line("beside_ended", "drain beside 1,000,000 ended", "%", {PG: 95}),
    Line("beside_pruning", "drain while 1,000,000 are pruned", "%", {PG: 80}),
    Line(
        "schedules_p50",
        "look at 10,000 schedules, none due",
        "ms",
        {PG: 5.0, SQLITE: 5.0},
    ),
    Line("schedules_p99", "  99th percentile", "ms"),
    Line("waiting_p50", "end to return of who waits, median", "ms", {PG: 20}),
    Line("waiting_p99", "  99th percentile", "ms"),
    Line("steps", "steps of multi-step jobs", "steps/s"),
    Line("hot_key", "one key, one at a time", "jobs/s", {PG: 500}),
    Line("keys", "10,000 keys, one at a time each, of a drain", "%", {PG: 60}),
    Line("beside_blocked", "drain beside 1,000,000 blocked", "%", {PG: 80}),
    Line("log_lines", "lines of one process, stored", "lines/s", {PG: 50_000}),
    Line("log_times_seed", "  times djprocess's log()", "times", {PG: 50}),
    Line("log_tail", "tail at 1,000,000 lines, of that at 0", "%", {PG: 83}),
    Line("log_page", "page 20,000 of a log, of page 1", "%", {PG: 83}),
    Line("follower_p50", "line to whoever follows, median", "ms", {PG: 300}),
    Line("follower_p99", "  99th percentile", "ms", {PG: 1000}),
    Line("fork_p50", "start() to first line of run(), fork", "ms", {PG: 60}),
    Line("fork_p99", "  99th percentile", "ms"),
    Line("spawn_p50", "  spawn, median", "ms", {PG: 1500}),
    Line("cancel_p50", "cancel() of a process that runs, median", "ms", {PG: 100}),
    Line("supervision", "supervising 50 processes", "% core", {PG: 5}),
    Line("old_snapshot", "drain of 200,000 under an old snapshot", "%", {PG: 50}),
]


def table(values: Values) -> Iterator[str]:
    """The lines to print."""
    yield (
        f"{'what':<40} {'database':<11}{'goal':>10} {'measured':>10}"
        f" {'raw loop':>10} {'ratio':>6}"
    )
    for line in LINES:
        for database, figures in values.items():
            if line.name in figures:
                yield _row(line, database, figures)


def _row(line: Line, database: str, figures: Mapping[str, Sequence[float]]) -> str:
    measured = median(figures[line.name])
    goal = line.goals.get(database)
    raw = figures.get(f"{line.name}_raw")
    row = f"{line.title:<40} {database:<11}"
    row += f"{'' if goal is None else _number(goal):>10} {_number(measured):>10}"
    row += f" {_number(median(raw)) if raw else '':>10}"
    row += f" {ratio(figures, line.name):>6.2f}" if raw else " " * 7
    marks = [] if goal is None or _reached(line, measured, goal) else ["missed"]
    if raw and line.name.startswith("drain"):
        below = ratio(figures, line.name) < RATIO_GOAL
        marks += [f"ratio below {RATIO_GOAL}"] if below else []
    return f"{row} {line.unit:<6} {', '.join(marks)}".rstrip()


def ratio(figures: Mapping[str, Sequence[float]], name: str) -> float:
    """The median of what each repetition reached of its own raw loop."""
    pairs = zip(figures[name], figures[f"{name}_raw"], strict=True)
    return median(ours / raw for ours, raw in pairs)


def _reached(line: Line, measured: float, goal: float) -> bool:
    return measured <= goal if line.unit in CEILINGS else measured >= goal


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"


def save(path: Path, values: Values, about: Mapping[str, Any]) -> None:
    """Write every value, its median and what they were measured with."""
    figures = {
        database: {
            name: {
                "median": round(median(found), 3),
                "all": [round(v, 3) for v in found],
            }
            for name, found in names.items()
        }
        for database, names in values.items()
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"about": about, "figures": figures}, indent=1) + "\n")


def environment(servers: Sequence[str]) -> dict[str, Any]:
    """What a reader must know to compare; nothing that names the machine."""
    names = ("django", "psycopg", "pymysql")
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return {
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        **found,
        "databases": list(servers),
    }
