"""The tasks of jobs of several steps, as django-db-queue's projects have them."""

import os
from pathlib import Path

from tests.waiting import eventually


def step_one(job):
    job.workspace["message"] = "Hello, task 2!"


def step_two(job):
    job.workspace["said"] = f"Task 1 says: {job.workspace['message']}"


def fail(job):
    raise ValueError("no bread")


def note(job):
    """Write down that it runs."""
    with open(job.workspace["path"], "a") as file:
        file.write(f"{os.getpid()} {job.queue_name}\n")


def hold(job):
    """Run until a file is there."""
    Path(job.workspace["began"]).touch()
    eventually(Path(job.workspace["gate"]).exists)
