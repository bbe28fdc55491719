"""What users see of a job that waits for something else than time."""

from datetime import timedelta

import pytest
from django.utils import timezone

from tests.contract.rows import NODE
from tests.limited_tasks import one
from tests.running import make_claimer
from windlass import api
from windlass.db import dialect as make_dialect
from windlass.jobs import lifecycle
from windlass.jobs.limits import Limits
from windlass.models import EndedJob, Job, LiveJob

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def db():
    return make_dialect("default")


@pytest.fixture(params=[False, True], ids=["users", "owned"])
def claimer(request):
    db = make_dialect("default", owned=request.param)
    yield make_claimer(db, NODE, Limits("default", {}))
    db.close()


def in_an_hour():
    return timezone.now() + timedelta(hours=1)


def test_one_that_waits_for_a_slot_was_due_when_it_was_enqueued(claimer):
    results = [one.enqueue(number) for number in range(2)]
    due = Job.objects.get(pk=results[1].id).run_after

    assert len(claimer.claim(10)) == 1

    blocked = Job.objects.get(pk=results[1].id)
    assert blocked.state == "blocked"
    assert blocked.run_after == blocked.enqueued_at == due
    assert one.get_result(blocked.id).task.run_after is None
    # By time alone it never starts.
    assert LiveJob.objects.get(pk=blocked.pk).available_at.year > 9000


def test_one_that_was_given_a_time_still_says_so_while_it_is_blocked(db):
    at = in_an_hour()
    result = one.using(run_after=at).enqueue(1)

    lifecycle.block(db, [result.id], "workflow")

    assert Job.objects.get(pk=result.id).run_after == at
    assert one.get_result(result.id).task.run_after == at
    assert list(Job.objects.filter(run_after=at)) == [Job.objects.get(pk=result.id)]


def test_one_with_a_time_that_never_comes_may_be_blocked_too(db):
    never = timezone.now().replace(year=9998, day=1)
    result = one.using(run_after=never).enqueue(1)

    lifecycle.block(db, [result.id], "workflow")

    assert Job.objects.get(pk=result.id).state == "blocked"
    assert LiveJob.objects.get(pk=result.id).available_at == never
    assert lifecycle.unblock(db, [result.id]) == {result.id}


def test_one_that_ends_while_it_is_blocked_keeps_the_moment(db, claimer):
    given = in_an_hour()
    results = [one.enqueue(0), one.enqueue(1), one.using(run_after=given).enqueue(2)]
    due = Job.objects.get(pk=results[1].id).run_after
    claimer.claim(10)
    lifecycle.block(db, [results[2].id], "workflow")

    for result in results[1:]:
        api.cancel_job(result.id)

    moments = [
        EndedJob.objects.get(pk=result.id).available_at for result in results[1:]
    ]
    assert moments == [due, given]
    assert [Job.objects.get(pk=r.id).run_after for r in results[1:]] == moments


def test_one_that_gets_its_turn_is_due_from_that_moment(db, claimer):
    results = [one.enqueue(number) for number in range(2)]
    claimer.claim(10)

    lifecycle.unblock(db, [results[1].id])

    job = Job.objects.get(pk=results[1].id)
    assert job.state == "ready"
    assert job.enqueued_at < job.run_after <= db.now() + timedelta(seconds=1)
