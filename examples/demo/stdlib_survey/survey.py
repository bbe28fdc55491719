"""
One survey: which jobs it enqueues, and how far they are.

A survey is a moment in time and the jobs enqueued from then on. It has three
kinds of jobs on purpose: the largest modules go first (priority), some start
two seconds later (run_after), and one reads a file that is not Python.
"""

import sys
import sysconfig
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from django.db.models import Count
from django.utils import timezone

from windlass.models import Job

from .tasks import measure, summarise

PRIORITY = 50
PRIORITY_JOBS = 20
LATER = timedelta(seconds=2)
LATER_PRIORITY = 10
LATER_EVERY = 25

# Test suites are left out: they are larger than the library they test.
SKIPPED = {"site-packages", "dist-packages", "test", "tests", "idle_test"}

ENDED = {"succeeded", "failed", "cancelled", "discarded"}


@dataclass(frozen=True)
class Survey:
    """The jobs enqueued by one call of `start`."""

    since: datetime
    size: int

    @property
    def jobs(self):
        return Job.objects.filter(enqueued_at__gte=self.since)

    def counts(self):
        """Return how many jobs are in which state."""
        # order_by() drops the model's own ordering, which would split the groups.
        states = self.jobs.order_by().values("state").annotate(jobs=Count("pk"))
        return {row["state"]: row["jobs"] for row in states}

    def unexpected(self):
        """List the jobs that did not succeed and should have."""
        return list(
            self.jobs.exclude(state="succeeded").exclude(
                state="failed", kwargs__path=sys.executable
            )
        )

    def summarise(self):
        """Enqueue the aggregate. Its result is worth reading when all else ended."""
        return summarise.enqueue(since=self.since.isoformat())


def start(found):
    """Enqueue one job for each of these modules, all in one statement."""
    since = timezone.now()
    jobs = [
        (how_to_measure(place, since), [], {"module": module, "path": str(path)})
        for place, (module, path) in enumerate(found)
    ]
    # The interpreter is a program, not a Python file: this job fails.
    jobs.append((measure, [], {"module": "python", "path": sys.executable}))
    measure.get_backend().enqueue_all(jobs)
    return Survey(since=since, size=len(jobs))


def ended(counts):
    """Add up the counts of jobs that have ended, whatever their end."""
    return sum(jobs for state, jobs in counts.items() if state in ENDED)


def how_to_measure(place, now):
    """Choose priority and time for the module at this place, largest first."""
    if place < PRIORITY_JOBS:
        return measure.using(priority=PRIORITY)
    if place % LATER_EVERY == 0:
        # Priority, so that they need not wait behind what was due before them.
        return measure.using(run_after=now + LATER, priority=LATER_PRIORITY)
    return measure


def modules():
    """List the standard library's modules as (name, path), the largest file first."""
    root = Path(sysconfig.get_path("stdlib"))
    files = [
        path
        for path in root.rglob("*.py")
        if SKIPPED.isdisjoint(path.relative_to(root).parts)
    ]
    files.sort(key=lambda path: (-path.stat().st_size, path))
    return [(module_name(path.relative_to(root)), path) for path in files]


def module_name(path):
    """Turn json/__init__.py into json, and json/tool.py into json.tool."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
