"""What a task says about its jobs: checked at the door, kept with each job."""

import time
from datetime import timedelta

import pytest
from django.utils import timezone

from tests import tasks
from tests.running import fresh, run_one, run_ready
from windlass import api, task
from windlass.exceptions import EnqueueError
from windlass.models import LiveJob
from windlass.tasks_api import TaskResultStatus

pytestmark = pytest.mark.django_db


def plain():
    pass


async def coroutine():
    pass


@task(timeout=timedelta(seconds=30))
def limited():
    pass


@task(expires=60)
def fleeting():
    return "ran"


@task(timeout=5, takes_context=True)
def how_long(context):
    return [context.remaining(), context.should_stop()]


@pytest.mark.parametrize(
    ("function", "policy", "said"),
    [
        (plain, {"timeout": 0}, "timeout must be longer than 0 s"),
        (plain, {"timeout": -1}, "timeout must be between"),
        (plain, {"timeout": "soon"}, "timeout must be seconds or a timedelta"),
        (plain, {"expires": 0}, "expires must be longer than 0 s"),
        (plain, {"executor": "rocket"}, "executor must be one of thread, async, proc"),
        (plain, {"executor": "async"}, "is for coroutine functions"),
        (plain, {"atomic": 1}, "atomic must be True or False"),
        (coroutine, {"atomic": True}, "atomic is for plain functions"),
    ],
)
def test_a_policy_that_means_nothing_is_refused_at_the_door(function, policy, said):
    with pytest.raises(EnqueueError, match=said) as caught:
        task(**policy)(function).enqueue()

    assert function.__name__ in str(caught.value)
    assert not LiveJob.objects.exists()


def test_the_timeout_is_kept_with_the_job():
    job = fresh(limited.enqueue())

    assert job.timeout == 30.0
    assert fresh(tasks.add.enqueue(1, 2)).timeout is None


def test_the_context_knows_how_much_time_is_left():
    how_long.enqueue()

    remaining, should_stop = run_one().return_value

    assert 4.5 < remaining <= 5
    assert should_stop is False


def test_a_job_that_comes_too_late_is_discarded_and_not_run():
    late, in_time = fleeting.enqueue(), fleeting.enqueue()
    row = LiveJob.objects.get(pk=late.id)
    row.policy["expires_at"] = time.time() - 1
    row.save()

    by_id = {result.id: result for result in run_ready()}

    assert by_id[in_time.id].return_value == "ran"
    job = fresh(late)
    assert (job.state, job.reason, job.attempts) == ("discarded", "expired", 0)
    assert job.started_at is None
    assert by_id[late.id].status == TaskResultStatus.SUCCESSFUL
    assert by_id[late.id].state == "discarded"


def test_a_job_expires_that_long_after_it_is_due():
    due = timezone.now() + timedelta(hours=1)
    result = fleeting.using(run_after=due).enqueue()

    expires_at = LiveJob.objects.get(pk=result.id).policy["expires_at"]

    assert expires_at == pytest.approx(due.timestamp() + 60, abs=1)


def test_a_discarded_job_can_be_retried_and_then_runs():
    late = fleeting.enqueue()
    row = LiveJob.objects.get(pk=late.id)
    row.policy["expires_at"] = time.time() - 1
    row.save()
    run_one()

    api.retry_failed_job(late.id)

    assert run_one().return_value == "ran"
