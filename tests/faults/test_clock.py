"""The clock that a storm sets, as processes see it."""

import os
import subprocess
import sys
import time

import pytest

from tests.faults.clock import Clock

ASK = """
import datetime, sqlite3, time
sql = "SELECT strftime('%s', 'now')"
print(time.time(), datetime.datetime.now().timestamp(), time.monotonic(),
      *sqlite3.connect(":memory:").execute(sql).fetchone())
"""


@pytest.fixture
def clock(tmp_path):
    if not Clock.exists():
        pytest.skip("there is no compiler to make a clock with")
    return Clock(tmp_path)


def ask(clock):
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env={**os.environ, **clock.environment},
        check=True,
        capture_output=True,
        text=True,
    )
    assert not done.stderr
    return [float(word) for word in done.stdout.split()]


@pytest.mark.parametrize("offset", [0, 600, -86_400.5])
def test_every_way_to_ask_for_the_time_gives_the_clock_that_was_set(clock, offset):
    clock.set(offset)

    begun, begun_monotonic = time.time(), time.monotonic()
    python, date, monotonic, sqlite = ask(clock)

    for said in (python, date, sqlite):
        assert -1 <= said - (begun + offset) < 30
    assert 0 <= monotonic - begun_monotonic < 30


def test_a_clock_can_be_set_while_a_process_runs(clock):
    process = subprocess.Popen(
        [sys.executable, "-c", "import time\nwhile not input(): print(time.time())"],
        env={**os.environ, "PYTHONUNBUFFERED": "1", **clock.environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def say():
        process.stdin.write("\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    before = say()
    clock.set(3600)
    after = say()
    process.communicate("stop\n")

    assert 3600 <= after - before < 3630
