"""
Faults of every kind, at random moments, while jobs of every kind keep coming.

For as long as it lasts, a storm keeps a number of unfinished jobs in the queue and
strikes at the runtimes and at the database. Then it lets everything recover, waits
for the last job and stops the runtimes. What was promised about all that is for
``verdict`` to say. What is drawn follows from the seed; the moment at which it
happens to a process is the machine's.
"""

import heapq
import random
import threading
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from django.db import Error, connection

from tests.faults import kinds, work
from tests.faults.clock import Clock
from tests.faults.fleet import Fleet
from tests.faults.places import Place
from tests.faults.strikes import FAULTS, HEARTBEAT, STOP_GRACE, THRESHOLD, Strike
from tests.faults.verdict import Evidence
from tests.integration.runtime import workers
from windlass import api
from windlass.exceptions import WindlassError
from windlass.models import Job, LiveJob
from windlass.tasks_api import task_backends

# Seconds without any progress after which the rest will never end.
PATIENCE = 60.0
# Seconds in which the effects of a fault are over.
RECOVERS_IN = 5.0
# Jobs a second and at a time: enough to keep all busy, few enough to judge them.
RATE, BATCH = 150, 200
# The share of jobs that are enqueued for later, and how much later at most.
LATER, LATEST = 0.2, 3.0


@dataclass
class Storm:
    """A queue, a fleet, and what befalls them."""

    directory: Path
    place: Place
    seconds: float
    jobs: int
    seed: int
    pause: tuple[float, float] = (0.1, 2.0)
    clock: Clock | None = None
    strikes: list[Strike] = field(default_factory=list)
    # What the storm is sure to have enqueued, and what it asked to cancel and when.
    enqueued: set[str] = field(default_factory=set)
    cancelled: dict[str, float] = field(default_factory=dict)

    def __post_init__(self):
        # One for each, so that what is enqueued does not change what strikes.
        self.random = random.Random(f"{self.seed} strikes")
        self.drawing = random.Random(f"{self.seed} jobs")
        alone = self.place.database == "sqlite"
        self.fleet = Fleet(
            self.directory,
            options={
                **workers(processes=1 if alone else 2, threads=3, async_concurrency=10),
                "process_heartbeat_interval": HEARTBEAT,
                "process_alive_threshold": THRESHOLD,
                "shutdown_timeout": 1.0,
                "stop_grace": STOP_GRACE,
            },
            env=self.clock.environment if self.clock else {},
        )
        self.faults = [fault for fault in FAULTS.values() if fault.possible(self)]
        self._going = {}
        self._to_cancel = []
        self._away = 0
        self._raging = threading.Event()
        # By itself: a frozen process may hold a lock, and must be thawed all the same.
        self.producer = threading.Thread(target=self._produce, daemon=True)

    def run(self):
        """Rage, let all recover, wait for the last job, stop."""
        self._patiently(_make_table)
        try:
            for _ in range(2):
                self.fleet.start()
            self._raging.set()
            self.producer.start()
            self._rage(time.monotonic() + self.seconds)
            self._raging.clear()
            self._calm()
            self.producer.join(PATIENCE)
            self._wait_for_the_end()
            self.fleet.stop()
        finally:
            self._raging.clear()
            self._undo_all()
            self.fleet.kill()
            if self.producer.is_alive():
                self.producer.join(PATIENCE)

    def _rage(self, until):
        strike_at = time.monotonic() + 1
        while (now := time.monotonic()) < until:
            self._look_after()
            if now >= strike_at:
                strike_at = now + self.between(*self.pause)
                self._strike()
            time.sleep(0.02)

    def _calm(self):
        """Let what lasts come to its end."""
        while self._going:
            self._look_after()
            time.sleep(0.02)

    def _wait_for_the_end(self):
        seen, since = None, time.monotonic()
        while left := self._patiently(LiveJob.objects.count):
            if left != seen:
                seen, since = left, time.monotonic()
            self._try(self._cancel_due)
            if time.monotonic() - since > PATIENCE:
                self.fleet.broken.append(f"{left} jobs never end, such as {_stuck()}")
                return
            self._look_after()
            time.sleep(0.1)

    def _look_after(self):
        self._go_on()
        self.fleet.watch()

    # Strikes

    def _strike(self):
        (fault,) = self.random.choices(self.faults, [f.share for f in self.faults])
        if fault.name not in self._going and self.fleet.living:
            going = fault.strike(self)
            if isinstance(going, Generator):
                self._going[fault.name] = (0.0, going)
                self._go_on()

    def _go_on(self):
        for name, (due, going) in list(self._going.items()):
            if time.monotonic() >= due:
                try:
                    self._going[name] = (time.monotonic() + next(going), going)
                except StopIteration:
                    del self._going[name]

    def _undo_all(self):
        for _due, going in self._going.values():
            going.close()

    def note(self, what, pids=()):
        """Write down that a fault strikes."""
        strike = Strike(what, frozenset(pids))
        self.strikes.append(strike)
        with (self.directory / "strikes").open("a") as file:
            print(f"{strike.began:.3f}", what, *sorted(pids), file=file)
        return strike

    def is_excused(self, strike):
        """Whether anything else befell the same processes, or all, while it lasted."""
        return any(
            (not other.pids or other.pids & strike.pids)
            and (other.ended or other.began) + RECOVERS_IN > strike.began
            for other in self.strikes
            if other is not strike
        )

    def pick(self, choices):
        """Draw one of these, or None."""
        return self.random.choice(choices) if choices else None

    def between(self, least, most):
        """Draw a number of seconds."""
        return self.random.uniform(least, most)

    @contextmanager
    def database_away(self):
        """Say that the database does not answer, and nobody shall wait for it."""
        self._away += 1
        try:
            yield
        finally:
            self._away -= 1

    # Jobs

    def _produce(self):
        topped_up = 0.0
        while self._raging.is_set():
            if not self._away:
                self._try(self._cancel_due)
                if time.monotonic() >= topped_up + BATCH / RATE:
                    topped_up = time.monotonic()
                    self._try(self._top_up)
            time.sleep(0.05)
        connection.close()

    def _top_up(self):
        missing = min(BATCH, self.jobs - LiveJob.objects.count())
        if missing <= 0:
            return
        calls = [self._draw() for _ in range(missing)]
        results = task_backends["default"].enqueue_all(calls)
        self.enqueued.update(result.id for result in results)
        for result in results:
            if kinds.KINDS[result.task.module_path].cancels:
                due = time.monotonic() + self.drawing.uniform(0, work.PATIENT / 2)
                heapq.heappush(self._to_cancel, (due, result.id))

    def _draw(self):
        task, args, kwargs = kinds.draw(self.drawing)
        if self.drawing.random() < LATER:
            delay = timedelta(seconds=self.drawing.uniform(0, LATEST))
            task = task.using(run_after=delay)
        return task, args, kwargs

    def _cancel_due(self):
        while self._to_cancel and self._to_cancel[0][0] <= time.monotonic():
            id = self._to_cancel[0][1]
            # Asked, as far as anyone can tell, even if the answer is lost.
            self.cancelled[id] = float("inf")
            with suppress(WindlassError):
                api.cancel_job(id, "the storm says so")
            self.cancelled[id] = time.monotonic()
            heapq.heappop(self._to_cancel)

    def _try(self, action):
        """Ask the database; False if it did not answer, as in a storm it may not."""
        try:
            action()
        except Error:
            connection.close()
            return False
        return True

    def _patiently(self, action):
        """Ask the database until it answers."""
        found = []
        deadline = time.monotonic() + PATIENCE
        while not self._try(lambda: found.append(action())):
            assert time.monotonic() < deadline, "the database does not answer"
            time.sleep(0.2)
        return found[0]

    def verdict(self):
        """Every broken promise, as a line of text."""
        evidence = Evidence(self.fleet, self.strikes, self.enqueued, self.cancelled)
        broken = evidence.verdict()
        for what, times in evidence.excused.items():
            print(f"{times} times old code went on beside new: its process {what}")
        return broken

    def summary(self):
        """What happened, in a few lines."""
        struck = Counter(strike.what for strike in self.strikes)
        states = Counter(Job.objects.values_list("state", "reason"))
        ended = ", ".join(f"{n} {' '.join(how).strip()}" for how, n in states.items())
        faults = ", ".join(f"{n} {what}" for what, n in struck.most_common())
        lines = len(self.fleet.journal.lines("start"))
        return (
            f"seed {self.seed}: {len(self.strikes)} strikes ({faults}), "
            f"{len(self.fleet.runtimes)} runtimes\n"
            f"{len(kinds.KINDS)} kinds of jobs: {ended}; {lines} starts"
        )


def _make_table():
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {work.EFFECTS} (job VARCHAR(36) NOT NULL)")


def _stuck():
    values = ("id", "task_path", "attempts", "node", "claim", "available_at", "hold")
    return list(LiveJob.objects.values(*values)[:5])
