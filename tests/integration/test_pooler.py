"""A whole runtime behind a real transaction pooler, which keeps no sessions."""

import json
import signal

import pytest
from django.db import connection

from tests.integration.project import tasks
from tests.integration.runtime import kill, workers
from tests.integration.states import job, states
from tests.servers import PgBouncer, private
from tests.waiting import eventually
from windlass.api import cancel_job
from windlass.models import Node

pytestmark = pytest.mark.skipif(
    connection.vendor != "postgresql" or not PgBouncer.exists(),
    reason="needs PostgreSQL and pgbouncer",
)
TWO = workers(processes=2, threads=2)


@pytest.fixture
def pooled(start):
    """Start runtimes that know the database by its pooler alone."""
    with private(PgBouncer) as pooler:
        server = {"HOST": "127.0.0.1", "PORT": str(pooler.port)}

        def started(*arguments, **given):
            return start(*arguments, WINDLASS_TEST_SERVER=json.dumps(server), **given)

        yield started


def test_a_runtime_behind_a_pooler_drains(pooled, journal):
    for _ in range(40):
        tasks.work.enqueue()
    for _ in range(10):
        tasks.swim.enqueue()

    assert pooled("--drain", options=TWO).wait(60) == 0

    assert states() == {"succeeded": 50}
    assert set(journal.starts_by_job().values()) == {1}
    assert not Node.objects.exists()


def test_it_says_once_that_it_polls_and_finds_what_comes_later(pooled):
    runtime = pooled(options=workers(threads=2))
    runtime.worker()
    eventually(lambda: "behind a transaction pooler" in runtime.said())

    for _ in range(20):
        tasks.work.enqueue()

    eventually(lambda: states() == {"succeeded": 20})
    assert runtime.stop() == 0
    assert runtime.said().count("behind a transaction pooler") == 1
    assert "does not answer" not in runtime.said()


def test_what_fails_is_tried_again(pooled, journal):
    failing = [tasks.fail_first.enqueue() for _ in range(5)]
    pooled(options=workers(threads=2))

    eventually(lambda: states() == {"succeeded": 5})
    for result in failing:
        assert journal.attempts_by_job()[result.id] == [1, 2]


def test_what_a_killed_worker_held_runs_again(pooled, journal, tmp_path):
    gate = tmp_path / "gate"
    held = tasks.wait_for_again.enqueue(str(gate))
    runtime = pooled(options=workers(threads=1))
    (pid,) = runtime.worker()
    eventually(journal.starts)

    kill(pid, signal.SIGKILL)
    gate.touch()

    eventually(lambda: states() == {"succeeded": 1})
    assert journal.attempts_by_job()[held.id] == [1, 2]


def test_a_running_job_is_cancelled(pooled, journal, tmp_path):
    held = tasks.wait_for_again.enqueue(str(tmp_path / "gate"))
    pooled(options=workers(threads=1)).worker()
    eventually(journal.starts)

    cancel_job(held.id)

    eventually(lambda: job(held).state == "cancelled")
