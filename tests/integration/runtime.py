"""
Starting, watching and ending real runtimes from a test.

A runtime is a process group of its own, so whatever it started ends with the test.
Its output goes to a file, which a failing test shows.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from django.db import connections

from tests.integration.project.journal import VARIABLE
from tests.waiting import eventually
from windlass.models import Node
from windlass.runtime.supervisor import AT_ONCE

ROOT = Path(__file__).resolve().parent.parent.parent
SETTINGS = "tests.integration.project.settings"
# What happens inside of worker processes takes minutes to test and asks the database
# for nothing of its own.
once_in_all = pytest.mark.skipif(
    connections["default"].vendor != "postgresql",
    reason="it is the same on every database",
)
# Short enough for tests to see heartbeats come and go.
QUICK = {"process_heartbeat_interval": 0.3, "process_alive_threshold": 2}


class Runtime:
    """One ``manage.py windlass``, or as it is called, from its start to its end."""

    def __init__(self, output, *arguments, env, command="windlass"):
        self.output = Path(output)
        with self.output.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "django", command, *arguments],
                cwd=ROOT,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self.process.pid

    # What it says and what it has

    def said(self):
        """All it wrote so far."""
        return self.output.read_text(errors="replace")

    def nodes(self, kind=Node.Kind.WORKER):
        """Its registered nodes of one kind."""
        nodes = Node.objects.filter(supervisor_pid=self.pid, kind=kind)
        return list(nodes.order_by("started_at"))

    def worker(self, count=1, *, timeout=60):
        """Wait for its workers and give back their pids."""
        eventually(
            lambda: len(self.nodes()) == count,
            timeout=timeout,
            message=lambda: self.said()[-3000:],
        )
        return [node.pid for node in self.nodes()]

    def processes(self):
        """Every process of its group that still runs."""
        return [pid for pid in _pids() if _group(pid) == self.pid]

    # Signals

    def send(self, number):
        """Signal the supervisor."""
        self.process.send_signal(number)

    def send_to_group(self, number):
        """Signal all of it, as a terminal does."""
        os.killpg(self.pid, number)

    def wait(self, timeout=60):
        """Wait for its end and give back the exit code."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"It still ran after {timeout} s:\n{self.said()[-5000:]}"
            ) from None

    def stop(self, number=signal.SIGTERM, *, timeout=60):
        """Ask for a stop and wait for it."""
        self.send(number)
        return self.wait(timeout)

    def insist(self, *, timeout=10):
        """Ask a second time, when that cannot be taken for the first."""
        later = time.monotonic() + 1.2 * AT_ONCE
        eventually(lambda: time.monotonic() > later)
        return self.stop(timeout=timeout)

    def kill(self):
        """End the supervisor and whatever it left behind."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        eventually(lambda: not self.processes())


def environment(journal, *, options=None, **more):
    """The environment of a runtime on the database of this test session."""
    settings = connections["default"].settings_dict
    return {
        **{k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"},
        "DJANGO_SETTINGS_MODULE": SETTINGS,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "PYTHONUNBUFFERED": "1",
        VARIABLE: str(journal),
        "WINDLASS_TEST_NAME": str(settings["NAME"]),
        "WINDLASS_TEST_OPTIONS": json.dumps({**QUICK, **(options or {})}),
        **more,
    }


def workers(**options):
    """The ``workers`` option with one entry."""
    return {"workers": [options]}


def kill(pid, number=signal.SIGKILL):
    """Signal one process."""
    os.kill(pid, number)


def is_running(pid):
    """Whether a process runs; one that nobody has waited for does not."""
    return pid in _pids()


def parent(pid):
    """The parent of a process."""
    return int(_stat(pid)[1])


def family(pid):
    """A process and all it has started and those have, as long as parents live."""
    children = {}
    for other in _pids():
        if values := _stat(other):
            children.setdefault(int(values[1]), []).append(other)
    found = [pid] if is_running(pid) else []
    waiting = [pid]
    while waiting:
        born = children.get(waiting.pop(), [])
        found += born
        waiting += born
    return found


def carrying(journal):
    """Every process whose tasks write this journal, whoever its parent is now."""
    said = f"{VARIABLE}={journal}\0".encode()
    found = []
    for pid in _pids():
        with suppress(OSError):
            if said in Path(f"/proc/{pid}/environ").read_bytes():
                found.append(pid)
    return found


def _pids():
    pids = []
    for name in os.listdir("/proc"):
        if name.isdigit() and _stat(name)[:1] not in ([], ["Z"], ["X"]):
            pids.append(int(name))
    return pids


def _stat(pid):
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _group(pid):
    values = _stat(pid)
    return int(values[2]) if values else None
