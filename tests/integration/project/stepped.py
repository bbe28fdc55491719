"""Steps of multi-step jobs, run by real workers."""

import os
import time
from pathlib import Path

from windlass import task


def _sign(job, name):
    job.workspace.setdefault("by", []).append([name, os.getpid(), os.getppid()])


def first(job):
    _sign(job, "first")


@task(max_attempts=2, on_lost="retry")
def gated(job):
    """Go on once there is a file; say first that it has begun."""
    _sign(job, "gated")
    gate = Path(job.workspace["gate"])
    gate.with_name(f"began-{job.attempts}").touch()
    while not gate.exists():
        time.sleep(0.02)


@task(executor="process")
def alone(job):
    _sign(job, "alone")


@task
async def later(job):
    _sign(job, "later")


@task(timeout=0.5)
def endless(job):
    job.workspace["endless"] = True
    while True:
        time.sleep(0.02)


def last(job):
    _sign(job, "last")


def note_failure(job, error):
    job.workspace["failure"] = type(error).__name__
