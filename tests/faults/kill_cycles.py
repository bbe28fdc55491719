"""
SIGKILL of a random runtime process, again and again, while a queue drains.

    python -m tests.faults.kill_cycles --cycles 200 --jobs 20000 --database postgresql

Half of the jobs may run five times, half of them once. Each task writes its start
and its end to a journal, so what happened is known from outside of the engine, and
``verdict`` compares that with what the database says.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path

# A task begins for the engine a moment before its first line can write to the journal.
FIRST_LINE = 0.25
# The share of kills that take the supervisor.
SUPERVISORS = 0.2


@dataclass
class Kill:
    """One victim."""

    what: str
    pid: int
    time: float


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
    kills: list[Kill] = field(default_factory=list)
    runtimes: list = field(default_factory=list)

    def run(self):
        """Enqueue, kill, wait for the end of all jobs, stop."""
        from tests.integration.project.journal import Journal

        self.random = random.Random(self.seed)
        self.journal = Journal(self.directory / "journal")
        self.once, self.again = self._enqueue()
        try:
            self._start()
            self._kill_often()
            self._wait_for_the_end()
            self.runtimes[-1].worker(2)
            self.exit_code = self.runtimes[-1].stop(timeout=60)
            self._wait_for_orphans()
        finally:
            for runtime in self.runtimes:
                runtime.kill()

    def _enqueue(self):
        from tests.integration.project import tasks
        from windlass.tasks_api import task_backends

        calls = []
        for number in range(self.jobs):
            task = (tasks.work, tasks.work_again)[number % 2]
            calls.append((task, [self.random.uniform(0, self.longest)], {}))
        results = task_backends["default"].enqueue_all(calls)
        ids = [result.id for result in results]
        return set(ids[::2]), set(ids[1::2])

    def _start(self):
        from tests.integration.runtime import Runtime, environment, workers

        options = workers(processes=2, threads=self.threads)
        env = environment(self.journal.path, options=options)
        output = self.directory / f"runtime-{len(self.runtimes) + 1}.log"
        self.runtimes.append(Runtime(output, env=env))

    def _kill_often(self):
        from windlass.models import LiveJob

        while len(self.kills) < self.cycles and LiveJob.objects.exists():
            time.sleep(self.random.uniform(*self.pause))
            self._kill_one()

    def _kill_one(self):
        from tests.integration.runtime import kill
        from windlass.models import Node

        runtime = self.runtimes[-1]
        children = sorted(set(runtime.processes()) - {runtime.pid})
        # A supervisor alone is one that starts. Mostly it may, or little else happens.
        if not children and self.random.random() < 0.9:
            return
        alone = not children or self.random.random() < SUPERVISORS
        pid = runtime.pid if alone else self.random.choice(children)
        kinds = dict(Node.objects.values_list("pid", "kind"))
        what = "supervisor" if pid == runtime.pid else kinds.get(pid, "other")
        with suppress(ProcessLookupError):
            kill(pid)
            self.kills.append(Kill(what, pid, time.time()))
        if pid == runtime.pid:
            runtime.process.wait()
            self._start()

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

    def _wait_for_orphans(self):
        deadline = time.monotonic() + 10
        while self._left_behind() and time.monotonic() < deadline:
            time.sleep(0.1)
        self.orphans = self._left_behind()

    def _left_behind(self):
        return [pid for runtime in self.runtimes for pid in runtime.processes()]

    # From outside

    def verdict(self):
        """Every broken promise, as a line of text."""
        from windlass.models import Job, Node

        found = []
        jobs = {str(job.pk): job for job in Job.objects.all()}
        lines = defaultdict(list)
        for line in self.journal.lines():
            lines[line.job].append(line)
        if set(jobs) != self.once | self.again:
            found.append(f"{len(jobs)} jobs of {self.jobs}")
        for id, job in jobs.items():
            said = self._about(job, lines[id], may_repeat=id in self.again)
            found += [f"{id} ({job.state} {job.reason}): {what}" for what in said]
        found += [f"node left behind: {node}" for node in Node.objects.all()]
        found += [f"process left behind: {pid}" for pid in self.orphans]
        if self.exit_code:
            found.append(f"the last runtime exited with {self.exit_code}")
        return found

    def _about(self, job, lines, *, may_repeat):
        starts = [line for line in lines if line.event == "start"]
        ends = [line for line in lines if line.event == "end"]
        if job.state not in ("succeeded", "failed"):
            yield "it has not ended"
            return
        if may_repeat and job.state != "succeeded":
            yield f"it could run again: {[e['traceback'] for e in job.history]}"
        if not may_repeat and len(starts) > 1:
            yield f"it started {len(starts)} times"
        if job.state == "failed" and job.reason not in ("lost", "crashed"):
            yield "it failed for no good reason"
        if job.state == "failed" and not starts and not self._began(job):
            yield f"it failed and had never started: {job.history}"
        if job.state == "succeeded" and not ends:
            yield "it succeeded without an end"
        numbers = [line.attempt for line in starts]
        if numbers != sorted(set(numbers)) or (numbers and numbers[-1] > job.attempts):
            yield f"its attempts were {numbers}, and {job.attempts} by the database"
        if starts and starts[-1].time > job.finished_at.timestamp():
            yield "it started again after its end was recorded"
        for first, second in pairwise(starts):
            if any(e.time > second.time and e.attempt == first.attempt for e in ends):
                yield "two attempts overlapped"

    def _began(self, job):
        # Killed between the ledger's note and the first line of the task: the engine
        # cannot know that nothing happened yet.
        return self._lived_on(job) <= FIRST_LINE

    def _lived_on(self, job):
        """Seconds from when a job began, as the ledger says, to the next kill."""
        began = datetime.fromisoformat(job.history[-1]["started_at"]).timestamp()
        later = [kill.time - began for kill in self.kills if kill.time >= began]
        return min(later, default=float("inf"))

    def summary(self):
        """What happened, in a few lines."""
        from windlass.models import Job

        states = Counter(Job.objects.values_list("state", "reason"))
        starts = self.journal.starts_by_job()
        failed = Job.objects.filter(state="failed")
        gaps = [self._lived_on(job) for job in failed if str(job.pk) not in starts]
        victims = dict(Counter(kill.what for kill in self.kills))
        ended = ", ".join(f"{n} {' '.join(how).strip()}" for how, n in states.items())
        return (
            f"seed {self.seed}: {len(self.kills)} kills {victims}, "
            f"{len(self.runtimes)} supervisors\n"
            f"jobs: {ended}; {sum(starts.values())} starts, at most "
            f"{max(starts.values())} of one job\n"
            f"{len(gaps)} jobs were killed between the ledger and their first line, "
            f"within {1000 * max(gaps, default=0):.1f} ms"
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
    os.environ["WINDLASS_TEST_DATABASE"] = given.database
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    import django

    django.setup()
    from django.test.utils import setup_databases, teardown_databases

    directory = Path(tempfile.mkdtemp(prefix="windlass-kills-"))
    print(f"seed {given.seed}; journal and output in {directory}", flush=True)
    made = setup_databases(verbosity=0, interactive=False)
    begun = time.monotonic()
    try:
        cycles = Cycles(
            directory, given.jobs, given.cycles, given.seed, longest=given.longest
        )
        cycles.run()
        print(cycles.summary(), f"in {time.monotonic() - begun:.0f} s", flush=True)
        broken = cycles.verdict()
        print(*broken[:50], sep="\n")
        print("every promise was kept" if not broken else f"{len(broken)} BROKEN")
    finally:
        teardown_databases(made, verbosity=0)
    return 1 if broken or len(cycles.kills) < given.cycles else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
