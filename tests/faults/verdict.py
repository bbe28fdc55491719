"""
What was promised, checked from outside: by the journal, the faults, the database.

The journal says what the tasks did, the strikes what was done to them. What the
database says must agree with both, job by job (``promises``).
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cached_property

from django.db import connection

from tests.faults import work
from tests.faults.crowds import Limits
from tests.faults.excuses import Faults
from tests.faults.promises import About
from windlass.models import EndedJob, Job, LiveJob, Node


@dataclass
class Evidence:
    """Everything that is known when all is over."""

    fleet: object
    strikes: list
    enqueued: set
    cancelled: dict = field(default_factory=dict)
    # What could only be forgiven, and how often.
    excused: Counter = field(default_factory=Counter)

    def verdict(self):
        """Every broken promise, as a line of text."""
        lines = self.fleet.journal.lines()
        self.faults = Faults(self.strikes, lines)
        self.lines = defaultdict(list)
        for line in lines:
            self.lines[line.job].append(line)
        found = list(self.fleet.broken)
        found += self._about_all()
        seen, values = set(), [column.name for column in Job._meta.fields]
        limits = Limits(self.faults)
        for job in Job.objects.values(*values).iterator():
            id = str(job["id"])
            seen.add(id)
            about = About(job, self.lines.get(id, ()), self)
            found += [f"{about}: {what}" for what in about.broken()]
            limits.note(about)
        found += limits.broken()
        found += [f"{id}: it was enqueued and is gone" for id in self.enqueued - seen]
        found += [f"{id}: it ran and is not there" for id in self.lines.keys() - seen]
        return found

    def _about_all(self):
        both = LiveJob.objects.filter(pk__in=EndedJob.objects.values("pk"))
        yield from (f"{job.pk}: it has ended and lives" for job in both)
        yield from (f"node left behind: {node}" for node in Node.objects.all())
        yield from (f"process left behind: {pid}" for pid in self.fleet.orphans)

    @cached_property
    def effects(self):
        """How many rows each job has left in the database."""
        if work.EFFECTS not in connection.introspection.table_names():
            return Counter()
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT job FROM {work.EFFECTS}")
            return Counter(job for (job,) in cursor.fetchall())

    @cached_property
    def children(self):
        """How many jobs each attempt of a job has enqueued."""
        leaves = Job.objects.filter(task_path=f"{work.__name__}.leaf")
        return Counter(args[1] for args in leaves.values_list("args", flat=True))
