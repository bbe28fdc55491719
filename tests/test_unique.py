"""Unique jobs: at most one that has not ended has a key, whoever enqueues it."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from asgiref.sync import sync_to_async
from django.db import connections, transaction

from tests.contract.rows import NODE, end, new, take
from tests.running import fresh, run_ready
from tests.tasks import add
from tests.unique_tasks import digest, loud, newest, odd, quiet, report
from windlass import api, unique
from windlass.db import dialect as make_dialect
from windlass.exceptions import (
    ConfigurationError,
    DuplicateJob,
    EnqueueError,
    RefusedTask,
    StaleJob,
)
from windlass.jobs import lifecycle
from windlass.jobs.keys import UNIQUE
from windlass.jobs.unique import enqueue
from windlass.models import Job, LiveJob
from windlass.signals import job_discarded
from windlass.tasks_api import default_task_backend, task_enqueued

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def db():
    return make_dialect("default")


def test_a_second_call_gives_back_the_job_that_holds_the_key():
    first = digest.enqueue(7)

    second = digest.enqueue(user_id=7)
    other = digest.enqueue(8)

    assert second.id == first.id
    assert (second.state, second.args) == ("ready", [7])
    assert other.id != first.id
    assert LiveJob.objects.count() == 2
    assert Job.objects.get(pk=first.id).unique_key == "digest:7"


@pytest.mark.parametrize("state", ["scheduled", "running", "blocked"])
def test_a_key_is_held_until_the_end(db, state):
    call = (
        digest.using(run_after=timedelta(hours=1)) if state == "scheduled" else digest
    )
    first = call.enqueue(7)
    if state == "blocked":
        lifecycle.block(db, [first.id], "limit")
    if state == "running":
        (held,) = take(db)
    assert fresh(first).state == state

    assert digest.enqueue(7).id == first.id

    if state == "running":
        db.finish(NODE, [end(held)])
        assert digest.enqueue(7).id != first.id


@pytest.mark.parametrize("end_by", ["succeeded", "failed", "cancelled"])
def test_an_end_frees_the_key_and_keeps_it_for_reading(end_by):
    call = odd if end_by == "failed" else digest
    first = call.enqueue(7)
    if end_by == "cancelled":
        api.cancel_job(first.id)
    else:
        run_ready()
    assert fresh(first).state == end_by

    second = call.enqueue(7)

    assert second.id != first.id
    assert Job.objects.get(pk=first.id).unique_key


def test_a_duplicate_can_be_stored_as_discarded():
    first, told = quiet.enqueue(1), []

    def receiver(sender, task_result, **kwargs):
        told.append(task_result.id)

    job_discarded.connect(receiver)
    second = quiet.enqueue(1)
    job_discarded.disconnect(receiver)

    assert (second.state, second.reason) == ("discarded", "duplicate")
    assert str(second.status) == "SUCCESSFUL"
    assert second.return_value is None
    assert second.id != first.id
    assert told == [second.id]
    assert fresh(first).state == "ready"
    assert fresh(second).attempts == 0


def test_the_newest_can_take_the_place_of_one_that_waits():
    first = newest.enqueue("draft", text="old")

    second = newest.enqueue("draft", text="new")

    assert (fresh(first).state, fresh(first).reason) == ("discarded", "duplicate")
    assert (second.state, second.kwargs) == ("ready", {"text": "new"})
    run_ready()
    assert fresh(second).return_value == "new"


def test_one_that_runs_is_not_replaced(db):
    first = newest.enqueue("draft", text="old")
    take(db)

    second = newest.enqueue("draft", text="new")

    assert fresh(first).state == "running"
    assert (second.state, second.reason) == ("discarded", "duplicate")


def test_a_duplicate_can_be_an_error_that_names_the_holder():
    first = loud.enqueue(1)

    with pytest.raises(DuplicateJob, match=f"the job {first.id} holds its unique key"):
        loud.enqueue(1)

    assert issubclass(DuplicateJob, EnqueueError)
    assert LiveJob.objects.count() == 1


def test_a_callers_transaction_goes_on_after_a_conflict():
    with transaction.atomic():
        first = digest.enqueue(1)
        assert digest.enqueue(1).id == first.id
        with pytest.raises(DuplicateJob):
            loud.enqueue(loud.enqueue(5) and 5)
        other = digest.enqueue(2)

    assert LiveJob.objects.filter(pk__in=[first.id, other.id]).count() == 2


def test_a_rollback_frees_the_key():
    with transaction.atomic():
        first = digest.enqueue(1)
        transaction.set_rollback(True)

    assert digest.enqueue(1).id != first.id


def test_a_key_may_be_made_by_a_function_or_not_at_all():
    first = report.enqueue({"id": 3})
    assert report.enqueue({"id": 3}).id == first.id
    assert Job.objects.get(pk=first.id).unique_key == "report-3"

    loose = [report.enqueue({}) for _ in range(2)]

    assert len({result.id for result in loose}) == 2


def test_defaults_of_the_function_are_part_of_the_call():
    first = newest.enqueue("a")

    assert newest.enqueue(name="a", text="").id != first.id
    assert fresh(first).state == "discarded"


@pytest.mark.parametrize("call", [([], {}), ([1, 2, 3], {}), ([], {"nobody": 1})])
def test_a_call_from_which_no_key_can_be_made_is_refused(call):
    args, kwargs = call

    with pytest.raises(RefusedTask, match=r"key 'digest:\{user_id\}' cannot be made"):
        digest.enqueue(*args, **kwargs)

    assert not LiveJob.objects.exists()


def test_a_key_that_is_too_long_is_refused():
    with pytest.raises(RefusedTask, match="a text of 1 to 255 characters"):
        digest.enqueue("x" * 300)


def test_the_decorator_stands_on_either_side():
    assert getattr(digest.func, UNIQUE).key == "digest:{user_id}"
    assert getattr(odd.func, UNIQUE).key == "odd:{number}"


@pytest.mark.parametrize(
    "said", [{"key": ""}, {"key": 3}, {"key": "a", "on_conflict": "ignore"}]
)
def test_a_decorator_that_makes_no_sense_is_refused(said):
    with pytest.raises(ConfigurationError, match="@unique"):
        unique(**said)


def test_a_bulk_settles_its_own_duplicates_in_order():
    calls = [(digest, [n % 3], {}) for n in range(7)]

    results = default_task_backend.enqueue_all(calls)

    assert [result.args for result in results] == [[n % 3] for n in range(7)]
    assert len({result.id for result in results}) == 3
    assert LiveJob.objects.count() == 3


def test_a_bulk_with_an_error_stores_nothing():
    with pytest.raises(DuplicateJob):
        default_task_backend.enqueue_all([(loud, [1], {}), (loud, [1], {})])

    assert not LiveJob.objects.exists()


def test_only_a_job_that_was_stored_is_announced():
    told = []

    def receiver(sender, task_result, **kwargs):
        told.append(task_result.id)

    task_enqueued.connect(receiver)
    first = digest.enqueue(1)
    digest.enqueue(1)
    task_enqueued.disconnect(receiver)

    assert told == [first.id]


def test_a_job_whose_key_is_held_by_now_does_not_come_back_to_life():
    first = digest.enqueue(1)
    api.cancel_job(first.id)
    second = digest.enqueue(1)

    with pytest.raises(StaleJob):
        api.retry_failed_job(first.id)
    assert fresh(first).state == "cancelled"

    run_ready()
    api.retry_failed_job(first.id)
    assert fresh(first).state == "ready"
    assert fresh(second).state == "succeeded"
    assert digest.enqueue(1).id == first.id


def test_keys_of_two_backends_have_nothing_to_do_with_each_other(db):
    one, other = new(), new(backend="other")

    assert enqueue(db, one, "k", "return_existing") == one.id
    assert enqueue(db, other, "k", "return_existing") == other.id


def test_producers_that_collide_agree_on_one_job():
    barrier = Barrier(8)

    def produce(_number):
        try:
            barrier.wait()
            return [digest.enqueue(n).id for n in range(5)]
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(produce, range(8)))

    assert all(ids == found[0] for ids in found)
    assert LiveJob.objects.count() == 5


def test_it_works_from_coroutines_too():
    async def act():
        first, second = await digest.aenqueue(1), await digest.aenqueue(1)
        await sync_to_async(connections.close_all)()
        return first.id == second.id

    assert asyncio.run(act())


def test_a_task_without_a_key_takes_no_further_statement(django_assert_num_queries):
    add.enqueue(1, 1)
    with django_assert_num_queries(1):
        add.enqueue(1, 1)
