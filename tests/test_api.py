"""The public functions: retry and discard a job by hand, claim and run it by hand."""

import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from tests import tasks
from tests.running import fresh, run_one, run_ready
from windlass import api, db
from windlass.exceptions import StaleJob, UndiscardableError
from windlass.jobs import lifecycle
from windlass.models import EndedJob, Job, LiveJob, Node
from windlass.tasks_api import TaskResultStatus

pytestmark = pytest.mark.django_db


def failed():
    result = tasks.boom.enqueue()
    run_one()
    return result


# Retry


def test_a_failed_job_lives_again_with_its_history():
    result = failed()

    api.retry_failed_job(result.id)

    job = fresh(result)
    assert (job.state, job.attempts, job.max_attempts) == ("ready", 1, 2)
    assert len(job.errors) == 1
    run_one()
    assert (fresh(result).state, len(fresh(result).errors)) == ("failed", 2)
    api.retry_failed_job(uuid.UUID(result.id))
    assert fresh(result).max_attempts == 3


@pytest.mark.parametrize("move", [lifecycle.cancel, lifecycle.discard])
def test_a_job_that_never_ran_can_be_retried(move):
    result = tasks.add.enqueue(1, 2)
    move(db.dialect("default"), [result.id])

    api.retry_failed_job(result.id)

    assert run_one().return_value == 3


def test_a_job_that_did_not_fail_cannot_be_retried():
    waiting, done = tasks.noop.enqueue(), tasks.noop.using(priority=1).enqueue()
    run_one()

    with pytest.raises(StaleJob, match=f"Job {waiting.id} is ready"):
        api.retry_failed_job(waiting.id)
    with pytest.raises(StaleJob, match=f"Job {done.id} is succeeded"):
        api.retry_failed_job(done.id)
    assert (fresh(waiting).state, fresh(done).state) == ("ready", "succeeded")


# Discard


def test_a_failed_job_is_discarded_and_stays_readable():
    result = failed()

    api.discard_failed_job(result.id)

    result.refresh()
    assert (result.status, result.state) == (TaskResultStatus.SUCCESSFUL, "discarded")
    assert len(result.errors) == 1
    with pytest.raises(UndiscardableError, match="is discarded"):
        api.discard_failed_job(result.id)


def test_only_a_failed_job_is_discarded():
    done = tasks.noop.using(priority=2).enqueue()
    run_one()
    running = tasks.noop.using(priority=1).enqueue()
    api.claim_ready_jobs()
    waiting = tasks.noop.enqueue()

    for result, state in (
        (done, "succeeded"),
        (running, "running"),
        (waiting, "ready"),
    ):
        with pytest.raises(UndiscardableError, match=f"{result.id} is {state}"):
            api.discard_failed_job(result.id)
        assert fresh(result).state == state


@pytest.mark.parametrize("verb", [api.retry_failed_job, api.discard_failed_job])
@pytest.mark.parametrize("id", ["", "nonsense", None, uuid.uuid4(), "\0"])
def test_an_unknown_id_is_not_found(verb, id):
    with pytest.raises(Job.DoesNotExist, match="has no job"):
        verb(id)


def test_a_job_of_another_alias_is_not_found_here(settings):
    entry = {"BACKEND": "windlass.backend.WindlassBackend", "QUEUES": []}
    settings.TASKS = {"default": entry, "other": entry}
    result = tasks.boom.using(backend="other").enqueue()
    (claimed,) = api.claim_ready_jobs(backend_alias="other")
    assert api.execute_claimed_job(claimed).state == "failed"

    with pytest.raises(Job.DoesNotExist):
        api.retry_failed_job(result.id)
    api.retry_failed_job(result.id, backend_alias="other")

    assert fresh(result).state == "ready"


# By hand


def test_what_is_claimed_is_running_on_a_node_that_everyone_knows():
    result = tasks.add.enqueue(1, 2)

    (claimed,) = api.claim_ready_jobs()

    assert (claimed.id, claimed.task_path) == (result.id, "tests.tasks.add")
    assert fresh(result).state == "running"
    node = Node.objects.get()
    assert fresh(result).node == node.pk
    assert node.heartbeat_at > timezone.now() + timedelta(minutes=50)
    assert api.claim_ready_jobs() == []
    assert Node.objects.count() == 1


def test_the_node_leaves_with_its_last_job():
    for _ in range(3):
        tasks.noop.enqueue()
    jobs = api.claim_ready_jobs(2)

    assert len(jobs) == 2
    api.execute_claimed_job(jobs[1])
    assert Node.objects.count() == 1
    api.execute_claimed_job(jobs[0])
    assert Node.objects.count() == 0


def test_nothing_to_claim_leaves_nothing_behind():
    assert api.claim_ready_jobs(5, ["mail", "x*"]) == []
    assert not Node.objects.exists()


def test_a_job_is_executed_once():
    tasks.add.enqueue(1, 2)
    (claimed,) = api.claim_ready_jobs()
    assert api.execute_claimed_job(claimed).return_value == 3

    with pytest.raises(StaleJob, match="executed before"):
        api.execute_claimed_job(claimed)


def test_a_job_that_was_taken_over_belongs_to_the_other():
    result = tasks.add.enqueue(1, 2)
    (lost,) = api.claim_ready_jobs()
    lifecycle.record(
        db.dialect("default"), lost.hold.node, [lifecycle.release(lost.job)]
    )
    (held,) = api.claim_ready_jobs()

    with pytest.raises(StaleJob):
        api.execute_claimed_job(lost)

    assert fresh(result).state == "running"
    assert api.execute_claimed_job(held).status == TaskResultStatus.SUCCESSFUL
    assert not Node.objects.exists()
    assert (LiveJob.objects.count(), EndedJob.objects.count()) == (0, 1)


@pytest.mark.django_db(transaction=True)
def test_a_script_without_a_transaction_of_its_own_can_run_jobs():
    tasks.add.enqueue(1, 2)
    tasks.boom.enqueue()
    tasks.stubborn.enqueue()

    results = run_ready()

    assert [result.state for result in results] == ["succeeded", "failed", "scheduled"]
    for result in results:
        assert fresh(result).state == result.state
    assert not Node.objects.exists()


def test_an_error_of_the_task_is_the_jobs_own():
    tasks.boom.enqueue()

    (result,) = run_ready()

    assert result.status == TaskResultStatus.FAILED
