"""``manage.py windlass``: what it refuses, and what it says."""

import subprocess
import sys

import pytest
from django.db import connection, connections

from tests.integration.runtime import ROOT, environment


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--backend", "nowhere"], "TASKS has no such Windlass backend"),
        (["--only-work", "--only-dispatch"], "not allowed with argument"),
        (["--only-dispatch", "--drain"], "--only-dispatch starts none"),
        (["--only-dispatch", "--max-jobs", "3"], "--only-dispatch starts none"),
        (["--max-jobs", "0"], "--max-jobs must be at least 1"),
        (["--threads", "0"], "--threads must be a whole number of at least 1"),
        (["--queues", "a**"], "--queues"),
    ],
)
def test_flags_that_make_no_sense_exit_2(start, arguments, said):
    runtime = start(*arguments)

    assert runtime.wait() == 2
    assert said in runtime.said()
    assert "Traceback" not in runtime.said()


def test_missing_migrations_are_named_with_what_to_do(committed, journal, tmp_path):
    env = environment(journal.path)
    if connection.vendor == "sqlite":
        env["WINDLASS_TEST_NAME"] = str(tmp_path / "empty.sqlite3")
        done = run(env)
    else:
        name = f"empty{connection.settings_dict['NAME']}"
        with a_database(name):
            done = run({**env, "WINDLASS_TEST_NAME": name})

    assert done.returncode == 1
    assert "windlass.0001_initial" in done.stdout
    assert "manage.py migrate" in done.stdout
    assert "Traceback" not in done.stdout


def test_it_says_what_it_runs(start):
    runtime = start("--drain", "--processes", "1", "--threads", "4", "--queues", "a,b*")

    assert runtime.wait() == 0
    assert "1 x 4 threads" in runtime.said()
    assert "queues a, b*" in runtime.said()
    assert "Ends when no job is ready." in runtime.said()
    assert runtime.said().endswith("Stopped.\n")


def run(env):
    return subprocess.run(
        [sys.executable, "-m", "django", "windlass"],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
    )


class a_database:
    """An empty database beside the suite's own."""

    def __init__(self, name):
        self.name = connections["default"].ops.quote_name(name)

    def __enter__(self):
        self._run(f"DROP DATABASE IF EXISTS {self.name}")
        self._run(f"CREATE DATABASE {self.name}")

    def __exit__(self, *_):
        self._run(f"DROP DATABASE {self.name}")

    def _run(self, sql):
        with connections["default"].cursor() as cursor:
            cursor.execute(sql)
