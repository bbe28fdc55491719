"""
How a figure is taken: fill a fresh database, start real processes, watch, verify.

The rate of a drain is the jobs divided by the time from the first task's own start to
the moment when no due job is left in the hot table. Interpreter and framework start-up
do not count; every recorded end does. After each drain the database and the marks are
asked whether every job ended, as succeeded, exactly once. A figure that fails this is
an error, not a figure.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import machine, marks
from bench.databases import ROOT

TRIES, DISTURBED = 3, 0.15
DJANGO = [sys.executable, "-m", "django"]


class WrongCount(Exception):
    """Jobs were lost, repeated or not recorded."""


class TimedOut(Exception):
    """Something that should have happened did not."""


@dataclass
class Run:
    """One run of the benchmark: where it keeps its files and how patient it is."""

    directory: Path
    memory: Path
    patience: float
    seconds: float = 300.0
    disturbed: float = 0.0
    # What WINDLASS_PROCESSES says.
    processes: dict[str, Any] = field(default_factory=dict)

    @property
    def marks(self) -> Path:
        """The file of marks, in memory where the system has such a place."""
        return self.memory / "marks"

    def environment(self, db: Any, worker: dict[str, Any] | None = None) -> Any:
        """The environment of a child process that works on a database."""
        return {
            **os.environ,
            **db.environment(),
            "WINDLASS_BENCH_PROCESSES": json.dumps(self.processes),
            "WINDLASS_BENCH_MARKS": str(self.marks),
            "WINDLASS_BENCH_WORKER": json.dumps(worker or {}),
            "DJANGO_SETTINGS_MODULE": "bench.settings",
        }

    def fresh(self, db: Any) -> None:
        """Start over: an empty database and no marks."""
        db.fresh()
        self.marks.unlink(missing_ok=True)

    def produce(
        self, db: Any, operation: str, n: int, *, module: str = "produce"
    ) -> Any:
        """Run a producer to its end and give back its answer."""
        out = self.directory / "answer.json"
        out.unlink(missing_ok=True)
        subprocess.run(
            [sys.executable, "-m", f"bench.{module}", operation, str(n), str(out)],
            env=self.environment(db),
            cwd=ROOT,
            check=True,
            timeout=self.seconds,
        )
        return json.loads(out.read_text())

    @contextmanager
    def runtime(
        self, db: Any, worker: dict[str, Any], *arguments: str, log: str = "off"
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A runtime as a user starts one, its output in a file; stopped at the end."""
        environment = self.environment(db, worker)
        environment["WINDLASS_BENCH_LOG_TASKS"] = log
        command = [*DJANGO, "windlass", "-v", "0", *arguments]
        with self.child(command, environment) as process:
            yield process

    def raw(self, db: Any, operation: str, n: int) -> Any:
        """A raw loop, as ``child``."""
        out = str(self.directory / "raw.json")
        command = [sys.executable, "-m", "bench.raw", operation, str(n), out]
        return self.child(command, self.environment(db))

    @contextmanager
    def child(
        self, command: Sequence[str], environment: Any
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A process that is stopped, if it has not ended, when this block ends."""
        with (self.directory / "runtime.log").open("ab") as log:
            process = subprocess.Popen(
                command, env=environment, cwd=ROOT, stdout=log, stderr=log
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def undisturbed(self, db: Any, measure: Callable[[], Any]) -> Any:
        """Measure again while others use the machine; keep the calmest figure."""
        calmest, least = None, float("inf")
        for _ in range(TRIES if self.patience else 1):
            machine.wait_for_quiet(self.patience)
            others = machine.Others([db.server_pid()])
            answer = measure()
            cores = others.cores()
            if cores < least:
                calmest, least = answer, cores
            if cores <= DISTURBED:
                break
        self.disturbed = max(self.disturbed, least)
        return calmest

    def wait(
        self, condition: Callable[[], bool], what: str, *, each: float = 0.005
    ) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + self.seconds
        while not condition():
            if time.monotonic() > deadline:
                log = (self.directory / "runtime.log").read_text()[-2000:]
                raise TimedOut(f"{what}: not within {self.seconds} s.\n{log}")
            time.sleep(each)

    def drained(self, db: Any, n: int, processes: Sequence[Any]) -> float:
        """Watch n jobs being worked off; the rate, if each ended exactly once."""
        before = sum(db.ended().values())

        def begun() -> bool:
            return marks.count(self.marks) >= n or any(p.poll() for p in processes)

        self.wait(begun, f"{n} jobs begun", each=0.01)
        self.wait(lambda: not db.busy(), f"{n} jobs ended", each=0.002)
        ended_at = time.time()
        starts = marks.read(self.marks)
        self._verify(db, n, before, starts)
        return n / (ended_at - min(at for _number, at in starts))

    def _verify(
        self, db: Any, n: int, before: int, starts: Sequence[tuple[int, float]]
    ) -> None:
        ended = db.ended()
        distinct = {number for number, _at in starts}
        if len(starts) != n or distinct != set(range(n)):
            raise WrongCount(f"{len(starts)} starts of {len(distinct)} jobs, not {n}.")
        if set(ended) != {"succeeded"} or ended["succeeded"] > before + n:
            raise WrongCount(f"{ended} ended, not {n} succeeded beside {before}.")


def drain(
    run: Run,
    db: Any,
    n: int,
    *,
    processes: int = 1,
    worker: dict[str, Any] | None = None,
    log: str = "off",
    fill: str = "fill",
    raw: bool = False,
    prepare: Callable[[], Any] = lambda: None,
    beside: Callable[[], Any] | None = None,
    may_go: int = 0,
) -> float:
    """
    The rate at which n jobs are worked off.

    ``prepare`` puts other rows into the fresh database; what ``beside`` returns is
    held open while the jobs drain. ``raw`` asks for the raw loop in place of us. Up to
    ``may_go`` ended jobs may be deleted meanwhile.
    """

    def measure() -> float:
        run.fresh(db)
        prepare()
        there = sum(db.ended().values())
        run.marks.unlink(missing_ok=True)
        run.produce(db, fill, n)
        db.settle()
        held = beside() if beside else None
        try:
            rate = _drain(run, db, n, processes, worker, log=log, raw=raw)
        finally:
            if held is not None:
                held.close()
        recorded = sum(db.ended().values()) - there
        if not n - may_go <= recorded <= n:
            raise WrongCount(f"{recorded} ends recorded of {n} jobs.")
        return rate

    return float(run.undisturbed(db, measure))


def _drain(
    run: Run,
    db: Any,
    n: int,
    processes: int,
    worker: dict[str, Any] | None,
    *,
    log: str,
    raw: bool,
) -> float:
    if raw:
        with run.raw(db, "drain", n) as one:
            if processes == 1:
                return run.drained(db, n, [one])
            with run.raw(db, "drain", n) as other:
                return run.drained(db, n, [one, other])
    worker = {"processes": processes, **(worker or {})}
    with run.runtime(db, worker, log=log) as process:
        rate = run.drained(db, n, [process])
    if process.returncode:
        raise WrongCount(f"The runtime ended with {process.returncode}.")
    return rate
