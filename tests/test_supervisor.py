"""The supervisor by itself, with parts that do as a test says."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from itertools import pairwise

import pytest

from tests.integration.runtime import ROOT, SETTINGS, once_in_all
from tests.waiting import eventually
from windlass.runtime.child import ENDED_WELL
from windlass.runtime.supervisor import how_it_ended

pytestmark = once_in_all

LIVENESS = ", liveness_file=str(here / 'alive')"


@pytest.fixture
def supervise(committed, tmp_path):
    """Run a supervisor in a process of its own, over parts whose ``run`` is given."""

    def supervise(code, *, plan="", options="", before=""):
        body = textwrap.indent(textwrap.dedent(code), " " * 8)
        program = f"""
import os, signal, sys, time, threading
import django; django.setup()
from dataclasses import replace
from pathlib import Path
from windlass import conf
from windlass.runtime import supervisor
from windlass.runtime.supervisor import Plan, Supervisor
here = Path({str(tmp_path)!r})

class Part:
    told = forced = False
    def stop(self, why): self.told = True
    def force(self): self.told = self.forced = True
    def run(self):
        with (here / "starts").open("a") as file:
            file.write(f"{{os.getpid()}} {{time.monotonic()}}\\n")
        starts = len((here / "starts").read_text().splitlines())
{body}
{before}
options = replace(conf.options("default"){options})
used = time.process_time()
code = Supervisor(options, [Plan("part", lambda node: Part(){plan})]).run()
print(f"used {{time.process_time() - used:.2f}} s")
sys.exit(code)
"""
        name = str(committed.settings_dict["NAME"])
        env = {"DJANGO_SETTINGS_MODULE": SETTINGS, "WINDLASS_TEST_NAME": name}
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        running.append(process)
        return process

    running = []
    yield supervise
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def starts(tmp_path):
    """The pids and times at which parts started."""
    file = tmp_path / "starts"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(int(pid), float(at)) for pid, at in (line.split() for line in lines)]


def finish(process, timeout=20):
    said, _ = process.communicate(timeout=timeout)
    return said


def test_a_part_that_ends_by_itself_ends_the_supervisor(supervise, tmp_path):
    process = supervise("return 0", plan=", ends_by_itself=True")

    said = finish(process)

    assert process.returncode == 0, said
    assert len(starts(tmp_path)) == 1


def test_a_part_that_keeps_dying_is_replaced_later_and_later(supervise, tmp_path):
    process = supervise(
        "os._exit(3) if starts < 5 else None; return 0", plan=", ends_by_itself=True"
    )

    said = finish(process)

    times = [at for _pid, at in starts(tmp_path)]
    assert len(times) == 5, said
    waits = [later - sooner for sooner, later in pairwise(times)]
    assert waits[0] >= 0.1
    assert waits[3] >= 0.8
    assert said.count("exited with status 3; replacing it.") == 4


def test_exit_status_0_is_not_a_proper_end(supervise, tmp_path):
    process = supervise(
        "os._exit(0) if starts == 1 else None; return 0", plan=", ends_by_itself=True"
    )

    said = finish(process)

    assert len(starts(tmp_path)) == 2, said
    assert "exited with status 0; replacing it." in said


def test_a_part_that_raises_says_why(supervise):
    process = supervise(
        "if starts == 1: raise ValueError('no such luck')\nreturn 0",
        plan=", ends_by_itself=True",
    )

    said = finish(process)

    assert "no such luck" in said
    assert "exited with status 1" in said


def test_a_part_that_ignores_every_signal_is_killed_in_the_end(supervise, tmp_path):
    process = supervise(
        "time.sleep(600)",
        options=", shutdown_timeout=0.1",
        before="supervisor.LAST_WRITES = 0.3",
    )
    eventually(lambda: starts(tmp_path))

    process.send_signal(signal.SIGTERM)
    said = finish(process, timeout=10)

    assert process.returncode == 1
    assert "did not end in time and are killed" in said


def test_it_sleeps_while_a_rescue_takes_its_time(supervise, tmp_path):
    process = supervise(
        "os._exit(3) if starts == 1 else None; return 0",
        plan=", ends_by_itself=True",
        before="supervisor.LOOK_AGAIN = 1.0\n"
        "from windlass.runtime.recovery import Recovery\n"
        "Recovery.child = lambda self, pid, how: self.recovered.append((1, None, ''))\n"
        "Recovery.look_again = lambda self: 0",
    )

    said = finish(process)

    (_, first), (_, second) = starts(tmp_path)
    assert second - first >= 1.0, said
    assert float(said.partition("used ")[2].split()[0]) < 0.3


def test_a_killed_rescue_is_made_again(supervise, tmp_path):
    process = supervise(
        "os._exit(3) if starts == 1 else None; return 0",
        plan=", ends_by_itself=True",
        before="from windlass.runtime.recovery import Recovery\n"
        "def child(self, pid, how):\n"
        "    file = here / 'rescues'\n"
        "    with file.open('a') as f: f.write('x')\n"
        "    if len(file.read_text()) == 1: os.kill(os.getpid(), signal.SIGKILL)\n"
        "Recovery.child = child",
    )

    said = finish(process)

    assert (tmp_path / "rescues").read_text() == "xx", said
    assert len(starts(tmp_path)) == 2


def test_how_a_process_ended_is_said_in_words():
    assert how_it_ended(-9) == "was killed by signal 9 (SIGKILL)"
    assert how_it_ended(3) == "exited with status 3"
    assert ENDED_WELL not in (0, 1, 2)


def test_a_part_that_keeps_dying_lets_the_liveness_file_grow_old(supervise, tmp_path):
    before = time.time() - time.monotonic()
    supervise("os._exit(3)", options=LIVENESS)

    eventually(lambda: len(starts(tmp_path)) >= 5)

    second = starts(tmp_path)[1][1] + before
    assert (tmp_path / "alive").stat().st_mtime < second + 0.1


def test_a_part_that_was_replaced_and_lives_is_life_again(supervise, tmp_path):
    before = time.time() - time.monotonic()
    supervise(
        "os._exit(3) if starts < 3 else None\nwhile not self.told: time.sleep(0.01)",
        options=LIVENESS,
    )
    eventually(lambda: len(starts(tmp_path)) == 3)

    third = starts(tmp_path)[2][1] + before

    eventually(lambda: (tmp_path / "alive").stat().st_mtime > third + 0.1)
