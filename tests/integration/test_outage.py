"""
A database that goes away and comes back: the runtime waits for it, and says so once.

The server that is stopped here is a private one, so nobody else's is.
"""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest
from django.db import connection

from tests import servers
from tests.integration.project import tasks
from tests.integration.runtime import ROOT, Runtime, environment, workers
from tests.integration.states import states
from tests.waiting import eventually, never
from windlass.tasks_api import task_backends

postgresql = pytest.mark.skipif(
    "postgresql" not in os.environ.get("WINDLASS_TEST_DATABASE", ""),
    reason="only PostgreSQL's connections can be ended from outside",
)
TWO = workers(processes=2, threads=2)
MIGRATE = (
    "from django.core.management import call_command;"
    "call_command('migrate', verbosity=0)"
)


@postgresql
def test_connections_that_are_terminated_are_made_again(start, journal):
    calls = [((tasks.work, tasks.work_again)[n % 2], [0.005], {}) for n in range(800)]
    task_backends["default"].enqueue_all(calls)
    runtime = start(options=TWO)
    pids = runtime.worker(2)

    for done in (100, 300, 500):
        eventually(lambda done=done: len(journal.ends()) >= done)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            assert cursor.fetchone()[0] >= 4

    eventually(lambda: states() == {"succeeded": 800})
    assert set(journal.starts_by_job().values()) == {1}
    assert runtime.worker(2) == pids
    assert runtime.stop() == 0


@postgresql
def test_a_thread_does_not_use_its_connection_from_before(start, journal):
    tasks.use_connection.enqueue()
    runtime = start(options=workers(threads=1))
    eventually(lambda: states() == {"succeeded": 1})
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    eventually(lambda: "answers again" in runtime.said())

    tasks.use_connection.enqueue()

    eventually(lambda: sum(states().values()) == 2 and "ready" not in states())
    eventually(lambda: states() == {"succeeded": 2})


@pytest.fixture(scope="module")
def server():
    if not servers.PostgreSQL.exists():
        assert not os.environ.get("CI"), "CI must have a PostgreSQL to stop and start"
        pytest.skip("there is no initdb to make a private PostgreSQL with")
    with servers.private(servers.PostgreSQL) as server:
        yield server


@pytest.fixture
def private(server, journal, tmp_path):
    """Run commands and runtimes on the private server."""
    address = {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": str(server.directory),
        "PORT": "5432",
        "USER": "postgres",
        "NAME": "postgres",
    }
    env = environment(
        journal.path, options=TWO, WINDLASS_TEST_SERVER=json.dumps(address)
    )
    env["WINDLASS_TEST_DATABASE"] = "postgresql"
    del env["WINDLASS_TEST_NAME"]
    return env


@postgresql
@pytest.mark.timeout(100)
def test_a_server_that_stops_and_starts_again_loses_and_doubles_nothing(
    server, private, journal, tmp_path, django_db_setup, django_db_blocker
):
    python(private, MIGRATE)
    python(
        private,
        "from tests.integration.project import tasks;"
        "from windlass.tasks_api import task_backends;"
        "calls = [((tasks.work, tasks.work_again)[n % 2], [0.01], {})"
        " for n in range(800)];"
        "task_backends['default'].enqueue_all(calls)",
    )
    runtime = Runtime(tmp_path / "runtime.log", env=private)
    try:
        eventually(lambda: len(journal.ends()) >= 100)
        server.stop()
        eventually(lambda: runtime.said().count("does not answer") >= 3)
        server.start()
        eventually(lambda: "answers again" in runtime.said())
        eventually(lambda: count(private) == "0")
        said = runtime.said()
        assert runtime.stop(signal.SIGTERM) == 0
    finally:
        runtime.kill()
        print(runtime.said())  # noqa: T201

    # Two workers with three loops each, the dispatcher with two, recovery perhaps.
    assert said.count("does not answer") <= 12
    assert "Traceback" not in said
    assert "replacing it" not in said
    assert set(journal.starts_by_job().values()) == {1}
    assert len(journal.ends()) == 800
    assert count(private, "Job", "state='succeeded'") == "800"


@postgresql
@pytest.mark.timeout(100)
def test_a_runtime_that_is_started_while_the_server_is_away_waits_for_it(
    server, private, tmp_path
):
    python(private, MIGRATE)
    server.stop()
    runtime = Runtime(tmp_path / "runtime.log", "--drain", env=private)
    try:
        eventually(lambda: "does not answer" in runtime.said())
        server.start()
        assert runtime.wait() == 0
    finally:
        runtime.kill()
        print(runtime.said())  # noqa: T201

    assert "Traceback" not in runtime.said()


@pytest.mark.skipif(connection.vendor == "sqlite", reason="a file is not away")
def test_nothing_at_the_start_needs_a_database_that_answers(start):
    with socket.socket() as reserved:
        # Bound and never listened on, so nobody else can answer there either.
        reserved.bind(("127.0.0.1", 0))
        port = str(reserved.getsockname()[1])
        runtime = start(
            WINDLASS_TEST_PG_HOST="127.0.0.1",
            WINDLASS_TEST_PG_PORT=port,
            WINDLASS_TEST_MYSQL_PORT=port,
        )
        eventually(lambda: "does not answer" in runtime.said())
        never(lambda: runtime.process.poll() is not None, during=1)

    assert "Traceback" not in runtime.said()


def count(env, model="LiveJob", where=""):
    return python(
        env,
        f"from windlass.models import {model}; print({model}.objects.filter("
        f"{where}).count())",
    )


def python(env, code):
    """Run a line of Python in the project and give back what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", f"import django; django.setup(); {code}"],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout.strip()
