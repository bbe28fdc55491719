"""
A workflow of a thousand jobs in a random graph, while its workers are killed.

    python -m tests.faults.workflows --jobs 1000 --seed 7 --database postgresql

Jobs fail at random, for a while or for good; processes of the runtime get a SIGKILL
at random, its supervisor too. In the end each job must have ended as a model says
that runs the same graph alone, with the same return value, and the run as well.
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

SUPERVISORS = 0.15
STUCK_AFTER = 120


@dataclass
class Killing:
    """A run, a runtime and its murderer."""

    directory: Path
    jobs: int
    seed: int
    pause: tuple[float, float] = (0.5, 3.0)
    kills: Counter = field(default_factory=Counter)
    broken: list = field(default_factory=list)

    def run(self):
        """Enqueue, kill until the run is over, stop, compare."""
        from tests.faults.fleet import Fleet
        from tests.flow_model import written
        from tests.integration.runtime import workers

        self.random = random.Random(self.seed)
        shape = random.Random(self.seed)
        self.flow = written(shape, self.jobs, levels=3, failing=0.03)
        # A job is not to fail because it was there each time its process was killed.
        options = {**workers(processes=2, threads=4), "crash_limit": 1000}
        self.fleet = Fleet(self.directory, options=options)
        self.made = self.flow.enqueue()
        try:
            self.fleet.start()
            self._kill_until_the_end()
            self.fleet.runtimes[-1].worker(2)
            self.fleet.stop()
        finally:
            self.fleet.kill()
        self._judge()

    def _kill_until_the_end(self):
        seen, since = None, time.monotonic()
        while True:
            time.sleep(self.random.uniform(*self.pause))
            self.made.refresh()
            if self.made.is_finished:
                return
            done = self.made.progress.done
            if done != seen:
                seen, since = done, time.monotonic()
            if time.monotonic() - since > STUCK_AFTER:
                raise AssertionError(f"Nothing ends any more: {self.made.progress}.")
            self._kill_one()

    def _kill_one(self):
        from tests.faults import fleet
        from windlass.models import Node

        runtime = self.fleet.runtimes[-1]
        children = sorted(set(self.fleet.family(runtime)) - {runtime.pid})
        if not children:
            return
        if self.random.random() < SUPERVISORS:
            self.kills["supervisor"] += 1
            runtime.process.kill()
            runtime.process.wait()
            self.fleet.replace(runtime)
            return
        pid = self.random.choice(children)
        kinds = dict(Node.objects.values_list("pid", "kind"))
        self.kills[kinds.get(pid, "other")] += 1
        fleet.signal_one(pid, signal.SIGKILL)

    def _judge(self):
        from tests.flow_model import expected
        from windlass.models import LiveJob

        model = expected(self.flow)
        found = dict(self.made.members.values_list("name", "outcome"))
        returned = {job.pk: job.return_value for job in self.made.jobs}
        for name, id in self.made.members.values_list("name", "pk"):
            said, wanted = found[name], model.outcomes[name]
            if said != wanted:
                self.broken.append(f"{name} ({id}) is {said!r}, not {wanted!r}")
            elif returned[id] != model.values[name]:
                value = model.values[name]
                self.broken.append(f"{name} ({id}) gave {returned[id]}, not {value}")
        if found.keys() != model.outcomes.keys():
            self.broken.append("the run has other members than the model")
        if self.made.state != model.state:
            self.broken.append(f"the run {self.made.state}, not {model.state}")
        self.broken += [f"{job} is left" for job in LiveJob.objects.all()]

    def summary(self):
        """What happened, in a few lines."""
        counts = Counter(self.made.members.values_list("outcome", flat=True))
        return (
            f"seed {self.seed}: {sum(self.kills.values())} kills {dict(self.kills)}, "
            f"{len(self.fleet.runtimes)} supervisors; the run {self.made.state}: "
            f"{dict(counts)}"
        )


def main(arguments):
    """Run the long form on a database of its own; exit 1 if the model was right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--database", default="postgresql")
    given = parser.parse_args(arguments)
    directory = Path(tempfile.mkdtemp(prefix="windlass-workflows-"))
    print(f"seed {given.seed}; output in {directory}", flush=True)
    os.environ["WINDLASS_TEST_DATABASE"] = given.database
    with own_database():
        begun = time.monotonic()
        killing = Killing(directory, given.jobs, given.seed)
        killing.run()
        print(killing.summary(), f"in {time.monotonic() - begun:.0f} s", flush=True)
        return report(killing.broken, directory)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
