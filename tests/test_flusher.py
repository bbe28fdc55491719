"""Outcomes become durable in batches, and only then are they announced."""

import pytest
from django.db import connection

from tests.running import make_flusher
from tests.tasks import add, nest
from windlass import db
from windlass.jobs import execution, lifecycle
from windlass.jobs.execution import Executor
from windlass.models import Job
from windlass.runtime.flusher import Report
from windlass.runtime.ledger import Ledger
from windlass.tasks_api import task_backends, task_finished

NODE = 815

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def flusher():
    own = db.dialect("default")
    executor = Executor(NODE, "default", type(task_backends["default"]))
    ledger = Ledger(NODE, slots=16)
    flusher = make_flusher(own, executor, ledger)
    flusher.start(flush=False)
    yield flusher
    ledger.remove()


@pytest.fixture
def finished():
    heard = []

    def receiver(*, task_result, **kwargs):
        heard.append((task_result.id, str(task_result.status)))

    task_finished.connect(receiver)
    yield heard
    task_finished.disconnect(receiver)


def ran(flusher, count):
    """Claim and run jobs; give back their reports, not yet written."""
    lanes = [db.Lane("default", 0)]
    jobs = lifecycle.claim(flusher.db, NODE, "default", lanes, count)
    outcomes = [execution.run(job, flusher.executor) for job in jobs]
    return [
        Report(job, outcome.move, outcome)
        for job, outcome in zip(jobs, outcomes, strict=True)
    ]


def test_what_was_recorded_is_announced_and_what_was_refused_is_not(flusher, finished):
    results = [add.enqueue(1, 2), add.enqueue(3, 4)]
    first, second = ran(flusher, 2)
    lifecycle.record_one(flusher.db, NODE, lifecycle.release(second.job))

    flusher.write([first, second])
    flusher.stop()

    assert finished == [(results[0].id, "SUCCESSFUL")]
    assert Job.objects.get(pk=results[1].id).state == "ready"


@pytest.mark.skipif(connection.vendor != "mysql", reason="MariaDB's JSON ends at 32")
def test_an_outcome_the_database_refuses_fails_its_own_job_and_says_so(
    flusher, finished
):
    results = [add.enqueue(1, 2), nest.enqueue(40), add.enqueue(3, 4)]

    flusher.write(ran(flusher, 3))
    flusher.stop()

    states = [Job.objects.get(pk=result.id).state for result in results]
    assert states == ["succeeded", "failed", "succeeded"]
    said = [status for _id, status in finished]
    assert said == ["SUCCESSFUL", "FAILED", "SUCCESSFUL"]
    assert Job.objects.get(pk=results[1].id).errors
