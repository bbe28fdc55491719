"""
SIGKILL of a random runtime process, again and again, while a queue drains.

    python -m tests.faults.kill_cycles --cycles 200 --jobs 20000 --database postgresql

A storm with one fault and two kinds of jobs: half of them may run five times, half of
them once. It counts cycles, where a storm counts seconds.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.alone import own_database, report

# The share of kills that take the supervisor.
SUPERVISORS = 0.2


@dataclass
class Cycles:
    """A queue, a runtime and its murderer."""

    directory: Path
    jobs: int
    cycles: int
    seed: int
    longest: float = 0.1
    threads: int = 4
    pause: tuple[float, float] = (0.2, 1.0)
    kills: list = field(default_factory=list)
    victims: Counter = field(default_factory=Counter)

    def run(self):
        """Enqueue, kill, wait for the end of all jobs, stop."""
        from tests.faults.fleet import Fleet
        from tests.integration.runtime import workers

        self.random = random.Random(self.seed)
        options = workers(processes=2, threads=self.threads)
        self.fleet = Fleet(self.directory, options=options)
        self.enqueued = self._enqueue()
        try:
            self.fleet.start()
            self._kill_often()
            self._wait_for_the_end()
            self.fleet.runtimes[-1].worker(2)
            self.fleet.stop()
        finally:
            self.fleet.kill()

    def _enqueue(self):
        from tests.faults import work
        from windlass.tasks_api import task_backends

        calls = []
        for number in range(self.jobs):
            task = (work.short_once, work.short_again)[number % 2]
            calls.append((task, [self.random.uniform(0, self.longest)], {}))
        results = task_backends["default"].enqueue_all(calls)
        return {result.id for result in results}

    def _kill_often(self):
        from windlass.models import LiveJob

        while len(self.kills) < self.cycles and LiveJob.objects.exists():
            time.sleep(self.random.uniform(*self.pause))
            self._kill_one()

    def _kill_one(self):
        from tests.faults import fleet
        from windlass.models import Node

        runtime = self.fleet.runtimes[-1]
        children = sorted(set(self.fleet.family(runtime)) - {runtime.pid})
        # A supervisor alone is one that starts. Mostly it may, or little else happens.
        if not children and self.random.random() < 0.9:
            return
        if not children or self.random.random() < SUPERVISORS:
            self._note("kill_supervisor", "supervisor", [runtime.pid, *children])
            runtime.process.kill()
            runtime.process.wait()
            self.fleet.replace(runtime)
            return
        pid = self.random.choice(children)
        kinds = dict(Node.objects.values_list("pid", "kind"))
        self._note("kill_one", kinds.get(pid, "other"), [pid])
        fleet.signal_one(pid, signal.SIGKILL)

    def _note(self, what, victim, pids):
        from tests.faults.strikes import Strike

        self.kills.append(Strike(what, frozenset(pids)))
        self.victims[victim] += 1

    def _wait_for_the_end(self):
        from windlass.models import LiveJob

        seen, since = None, time.monotonic()
        while left := LiveJob.objects.count():
            if left != seen:
                seen, since = left, time.monotonic()
            if time.monotonic() - since > 120:
                held = LiveJob.objects.running().count()
                raise AssertionError(f"{left} jobs never end, {held} of them held.")
            time.sleep(0.1)

    def verdict(self):
        """Every broken promise, as a line of text."""
        from tests.faults.verdict import Evidence

        return Evidence(self.fleet, self.kills, self.enqueued).verdict()

    def summary(self):
        """What happened, in a few lines."""
        from windlass.models import Job

        states = Counter(Job.objects.values_list("state", "reason"))
        starts = self.fleet.journal.starts_by_job()
        ended = ", ".join(f"{n} {' '.join(how).strip()}" for how, n in states.items())
        return (
            f"seed {self.seed}: {len(self.kills)} kills {dict(self.victims)}, "
            f"{len(self.fleet.runtimes)} supervisors\n"
            f"jobs: {ended}; {sum(starts.values())} starts, at most "
            f"{max(starts.values())} of one job"
        )


def main(arguments):
    """Run the long form on a database of its own; exit 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--cycles", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--longest", type=float, default=0.1, help="seconds of a task")
    parser.add_argument("--database", default="postgresql")
    given = parser.parse_args(arguments)
    directory = Path(tempfile.mkdtemp(prefix="windlass-kills-"))
    print(f"seed {given.seed}; journal and output in {directory}", flush=True)
    os.environ["WINDLASS_TEST_DATABASE"] = given.database
    with own_database():
        begun = time.monotonic()
        cycles = Cycles(
            directory, given.jobs, given.cycles, given.seed, longest=given.longest
        )
        cycles.run()
        print(cycles.summary(), f"in {time.monotonic() - begun:.0f} s", flush=True)
        code = report(cycles.verdict(), directory)
    return code or int(len(cycles.kills) < given.cycles)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
