"""
A file in which tasks note their starts and ends, one line each.

Each line is one ``write`` to a file opened for appending, so lines of processes that
are killed are whole or absent, and what is in the file happened. A line says the time
twice: as the task's clock does, and by a clock that nobody can set.
"""

import os
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

VARIABLE = "WINDLASS_TEST_JOURNAL"


class Line(NamedTuple):
    """One event in the life of a job, as its task saw it."""

    event: str
    job: str
    attempt: int
    pid: int
    parent: int
    time: float
    tick: float
    label: str


def note(event, context, label=""):
    """Write one line."""
    id, attempt = context.task_result.id, context.attempt
    who = f"{os.getpid()} {os.getppid()}"
    when = f"{time.time():.6f} {time.monotonic():.6f}"
    line = f"{event} {id} {attempt} {who} {when} {label}\n"
    file = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


class Journal:
    """What the tasks wrote."""

    def __init__(self, path):
        self.path = Path(path)

    def lines(self, event=None):
        """Every line, or those of one kind of event, in the order of writing."""
        if not self.path.exists():
            return []
        found = []
        for text in self.path.read_text().splitlines():
            kind, job, attempt, pid, parent, moment, tick, label = text.split(" ", 7)
            who = (int(attempt), int(pid), int(parent))
            if event in (None, kind):
                found.append(Line(kind, job, *who, float(moment), float(tick), label))
        return found

    def starts(self, job=None):
        """The starts, of one job or of all."""
        return self._of("start", job)

    def ends(self, job=None):
        """The ends, of one job or of all."""
        return self._of("end", job)

    def _of(self, event, job):
        lines = self.lines(event)
        return lines if job is None else [x for x in lines if x.job == str(job)]

    def labels(self):
        """The labels of what started, in order."""
        return [line.label for line in self.starts()]

    def starts_by_job(self):
        """How often each job started."""
        return Counter(line.job for line in self.starts())

    def attempts_by_job(self):
        """The attempt numbers each job started with, in order."""
        found = defaultdict(list)
        for line in self.starts():
            found[line.job].append(line.attempt)
        return found

    def most_at_once(self):
        """The highest number of tasks that were inside at the same time."""
        inside = most = 0
        for line in sorted(self.lines(), key=lambda line: line.time):
            inside += {"start": 1, "end": -1}[line.event]
            most = max(most, inside)
        return most
