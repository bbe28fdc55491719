"""Two backends on one database have nothing to do with each other."""

import pytest

from tests.tasks import add
from tests.unique_tasks import digest
from windlass import api
from windlass.api import QueueInfo
from windlass.conf import options
from windlass.db import Lane, dialect
from windlass.jobs import lifecycle
from windlass.models import EndedJob, Job
from windlass.runtime.pruner import Pruner
from windlass.tasks_api import TaskResultDoesNotExist, task_backends

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def slow(settings):
    """A second backend, ``slow``, beside the first."""
    entry = settings.TASKS["default"]
    at_once = {"OPTIONS": {"clear_finished_jobs_after": 0}}
    settings.TASKS = {**settings.TASKS, "slow": {**entry, **at_once}}


def test_a_result_is_known_to_its_own_backend_only():
    result = add.using(backend="slow").enqueue(1, 2)

    assert task_backends["slow"].get_result(result.id).state == "ready"
    with pytest.raises(TaskResultDoesNotExist):
        task_backends["default"].get_result(result.id)


def test_claims_take_what_is_their_own():
    mine, other = add.enqueue(1, 2), add.using(backend="slow").enqueue(1, 2)

    jobs = lifecycle.claim(dialect("default"), 7, "slow", [Lane("default", 0)], 10)

    assert [job.id for job in jobs] == [other.id]
    assert Job.objects.get(pk=mine.id).state == "ready"


def test_a_pause_a_unique_key_and_a_retention_are_a_backends_own():
    QueueInfo("default", "slow").pause()
    assert not QueueInfo("default").paused
    assert digest.enqueue(1).id != digest.using(backend="slow").enqueue(1).id

    QueueInfo("default", "slow").resume()
    assert QueueInfo("default").drain() == QueueInfo("default", "slow").drain() == 1
    Pruner(options("slow")).tick()
    Pruner(options("default")).tick()

    assert EndedJob.objects.get().backend_alias == "default"


def test_operations_on_many_jobs_leave_the_other_backend_alone():
    add.enqueue(1, 2)
    other = add.using(backend="slow").enqueue(1, 2)

    assert api.discard_ready_jobs() == 1
    assert Job.objects.get(pk=other.id).state == "ready"
    with pytest.raises(Job.DoesNotExist):
        api.cancel_job(other.id)
    assert api.cancel_job(other.id, backend_alias="slow")
