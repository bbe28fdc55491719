"""
``python -m bench``: measure, print the table, keep the figures.

    python -m bench                            everything, some twenty minutes
    python -m bench --only drain --repeat 5    one subject, the median of five
    python -m bench --smoke                    only whether everything works

Servers are looked for where WINDLASS_TEST_PG_* and WINDLASS_TEST_MYSQL_* say.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import report
from bench.databases import PostgreSQL, SQLite
from bench.mariadb import MariaDB
from bench.measurements import SMOKE, SUBJECTS, Sizes
from bench.runs import Run

DATABASES = {kind.kind: kind for kind in (PostgreSQL, SQLite, MariaDB)}
RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Measure what the command line asks for; give back the exit code."""
    arguments = _arguments()
    values: dict[str, dict[str, list[float]]] = {}
    with _directories() as (directory, memory):
        run = Run(directory, memory, 0 if arguments.smoke else arguments.patience)
        databases, missing = _databases(arguments.database, directory)
        versions = [db.version() for db in databases]
        try:
            for repetition in range(arguments.repeat):
                for db in databases:
                    found = values.setdefault(db.kind, defaultdict(list))
                    _measure(run, db, arguments, found, repetition)
        finally:
            for db in databases:
                db.drop()
    print()
    if arguments.smoke:
        print("It works: every job ended, and ended once. These figures mean nothing.")
    else:
        print("\n".join(report.table(values)))
        about = report.environment(versions)
        about |= {
            "repeat": arguments.repeat,
            "disturbed_cores": round(run.disturbed, 2),
        }
        path = RESULTS / time.strftime("local-%Y-%m-%d-%H%M%S.json")
        if arguments.save:
            path = RESULTS / time.strftime("%Y-%m-%d.json")
        report.save(path, values, about)
        print(f"\nKept in {path.relative_to(RESULTS.parent.parent)}.")
    return 1 if missing and os.environ.get("CI") == "true" else 0


def _measure(
    run: Run,
    db: Any,
    arguments: argparse.Namespace,
    found: dict[str, list[float]],
    repetition: int,
) -> None:
    sizes = SMOKE if arguments.smoke else Sizes()
    subjects = ["drain"] if db.kind == "mariadb" else list(SUBJECTS)
    for subject in subjects:
        if arguments.only and subject not in arguments.only:
            continue
        begun = time.monotonic()
        figures = SUBJECTS[subject](run, db, sizes)
        for name, figure in figures.items():
            found[name].append(figure)
        shown = "  ".join(f"{name} {figure:,.1f}" for name, figure in figures.items())
        seconds = time.monotonic() - begun
        print(
            f"{db.title} #{repetition + 1} {subject} ({seconds:.0f} s): {shown}",
            flush=True,
        )


def _databases(asked: list[str] | None, directory: Path) -> tuple[list[Any], list[str]]:
    """The databases that there are, made; and the titles of those missing."""
    made, missing = [], []
    for kind in asked or DATABASES:
        db = DATABASES[kind](directory)
        try:
            db.version()
        except Exception as error:  # noqa: BLE001 - each driver has its own
            print(f"!!! MISSING: {db.title}, so it is not measured: {error} !!!")
            missing.append(db.title)
            continue
        db.create()
        made.append(db)
    return made, missing


@contextmanager
def _directories() -> Iterator[tuple[Path, Path]]:
    """A directory on a disk for databases and logs, and one in memory for marks."""
    RESULTS.mkdir(exist_ok=True)
    place = os.environ.get("WINDLASS_BENCH_DIRECTORY", RESULTS)
    directory = Path(tempfile.mkdtemp(prefix="local-run-", dir=place))
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    memory = Path(tempfile.mkdtemp(prefix="windlass_bench_", dir=shared))
    try:
        yield directory, memory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        shutil.rmtree(memory, ignore_errors=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--smoke", action="store_true", help="tiny sizes, no figures, under a minute")
    add("--only", action="append", choices=SUBJECTS, help="this subject; repeatable")
    add("--database", action="append", choices=DATABASES, help="this one; repeatable")
    add("--repeat", type=int, default=1, help="times over; medians are shown")
    add(
        "--patience",
        type=float,
        default=20,
        help="seconds to wait for a quiet machine before each figure",
    )
    add("--save", action="store_true", help="keep the figures under today's date")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
