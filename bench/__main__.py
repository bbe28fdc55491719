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
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench import report
from bench.databases import PostgreSQL, SQLite
from bench.mariadb import MariaDB
from bench.measurements import SUBJECTS
from bench.runs import Run
from bench.sizes import SMOKE, Sizes

DATABASES = {kind.kind: kind for kind in (PostgreSQL, SQLite, MariaDB)}
RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Measure what the command line asks for; give back the exit code."""
    arguments = _arguments()
    # Databases and runtimes are cleaned up when someone stops this, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with ExitStack() as stack:
        directory = _directory(stack)
        databases, missing = _databases(arguments.database, directory, stack)
        measuring = [Measuring(arguments, db, directory, stack) for db in databases]
        if arguments.smoke:
            with ThreadPoolExecutor() as together:
                list(together.map(Measuring.repetition, measuring))
            print(
                "It works: every job ended, and ended once. The figures mean nothing."
            )
        else:
            _measure(arguments, measuring)
    return 1 if missing and os.environ.get("CI") == "true" else 0


class Measuring:
    """One database, and what has been measured on it so far."""

    def __init__(
        self, arguments: argparse.Namespace, db: Any, directory: Path, stack: ExitStack
    ) -> None:
        self.arguments, self.db = arguments, db
        self.version = db.version()
        self.sizes = SMOKE if arguments.smoke else Sizes()
        own = directory / db.kind
        own.mkdir()
        shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
        memory = TemporaryDirectory(prefix="windlass_bench_", dir=shared)
        patience = 0 if arguments.smoke else arguments.patience
        self.run = Run(own, Path(stack.enter_context(memory)), patience)
        self.values: dict[str, list[float]] = defaultdict(list)

    def repetition(self, keep: Callable[[], None] = lambda: None) -> None:
        """Measure each subject once; keep what there is after each."""
        subjects = ["drain"] if self.db.kind == "mariadb" else list(SUBJECTS)
        for subject in subjects:
            if not self.arguments.only or subject in self.arguments.only:
                self._measure(subject)
                keep()

    def _measure(self, subject: str) -> None:
        begun, self.run.disturbed = time.monotonic(), 0.0
        figures = SUBJECTS[subject](self.run, self.db, self.sizes)
        figures[f"{subject}: cores used by others"] = self.run.disturbed
        for name, figure in figures.items():
            self.values[name].append(figure)
        shown = "; ".join(f"{name} {figure:,.2f}" for name, figure in figures.items())
        seconds = time.monotonic() - begun
        print(f"{self.db.title}, {subject} ({seconds:.0f} s): {shown}", flush=True)


def _measure(arguments: argparse.Namespace, measuring: list[Measuring]) -> None:
    path = RESULTS / time.strftime("local-%Y-%m-%d-%H%M%S.json")
    if arguments.save:
        path = RESULTS / time.strftime("%Y-%m-%d.json")
    about = report.environment([each.version for each in measuring])
    values = {each.db.kind: each.values for each in measuring}
    for _ in range(arguments.repeat):
        for each in measuring:
            each.repetition(keep=lambda: report.save(path, values, about))
    print("\n" + "\n".join(report.table(values)))
    print(f"\nKept in {path.relative_to(RESULTS.parent.parent)}.")


def _databases(
    asked: list[str] | None, directory: Path, stack: ExitStack
) -> tuple[list[Any], list[str]]:
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
        stack.callback(db.drop)
        db.create()
        made.append(db)
    return made, missing


def _directory(stack: ExitStack) -> Path:
    """A place on a disk for databases and logs, removed at the end."""
    RESULTS.mkdir(exist_ok=True)
    place = os.environ.get("WINDLASS_BENCH_DIRECTORY", RESULTS)
    directory = TemporaryDirectory(prefix="local-run-", dir=place)
    return Path(stack.enter_context(directory))


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
