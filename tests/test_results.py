"""Results: Django's view of a job, at every moment of its life."""

import asyncio
import pickle
import uuid
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.utils import timezone

from tests import tasks
from tests.running import run_one, run_ready
from windlass import api, db
from windlass.jobs import lifecycle
from windlass.tasks_api import (
    TaskResultDoesNotExist,
    TaskResultMismatch,
    TaskResultStatus,
    default_task_backend,
)

pytestmark = pytest.mark.django_db
backend = default_task_backend
READY, RUNNING = TaskResultStatus.READY, TaskResultStatus.RUNNING
SUCCESSFUL, FAILED = TaskResultStatus.SUCCESSFUL, TaskResultStatus.FAILED


def dialect():
    return db.dialect("default")


# Looking up


def test_a_fetched_result_equals_the_enqueued_one():
    later = timezone.now() + timedelta(hours=1)
    for task in (
        tasks.echo,
        tasks.echo.using(priority=5, queue_name="mail"),
        tasks.echo.using(run_after=later),
        tasks.echo.using(metadata={"a": [1]}),
        tasks.stubborn,
    ):
        result = task.enqueue(1, "two", three=[3.5, None, {"x": True}])
        assert task.get_result(result.id) == result
        assert backend.get_result(result.id) == result
        assert async_to_sync(task.aget_result)(result.id) == result


def test_an_id_may_be_spelled_in_any_way():
    result = tasks.noop.enqueue()

    for id in (result.id.upper(), result.id.replace("-", ""), uuid.UUID(result.id)):
        assert backend.get_result(id) == result


@pytest.mark.parametrize(
    "id", ["", "nonsense", "123", "x" * 10_000, "\0", None, 5, b"", str(uuid.uuid4())]
)
def test_an_unknown_or_malformed_id_is_not_found(id):
    with pytest.raises(TaskResultDoesNotExist):
        backend.get_result(id)
    with pytest.raises(TaskResultDoesNotExist):
        tasks.noop.get_result(id)
    with pytest.raises(TaskResultDoesNotExist):
        async_to_sync(backend.aget_result)(id)


def test_the_id_of_another_tasks_job_is_a_mismatch():
    result = tasks.noop.enqueue()

    with pytest.raises(TaskResultMismatch, match=r"tests\.tasks\.noop"):
        tasks.add.get_result(result.id)
    with pytest.raises(TaskResultMismatch):
        async_to_sync(tasks.add.aget_result)(result.id)


def test_fetching_takes_one_query(django_assert_num_queries):
    result = tasks.noop.enqueue()

    with django_assert_num_queries(1):
        backend.get_result(result.id)


# The life of a result


def test_a_success_shows_everything():
    result = tasks.add.enqueue(1, 2)
    done = run_one()

    result.refresh()

    assert (result.status, result.state, result.reason) == (SUCCESSFUL, "succeeded", "")
    assert result.is_finished
    assert result.return_value == done.return_value == 3
    assert result.errors == []
    assert result.attempts == len(result.worker_ids) == 1
    assert result.worker_ids == done.worker_ids
    assert result.enqueued_at <= result.started_at + timedelta(seconds=1)
    assert result.started_at == result.last_attempted_at <= result.finished_at
    assert backend.get_result(result.id) == result


def test_a_failure_has_no_return_value():
    result = tasks.boom.enqueue()
    run_one()

    result.refresh()

    assert (result.status, result.state, result.reason) == (FAILED, "failed", "error")
    assert result.is_finished
    assert result.finished_at is not None
    with pytest.raises(ValueError, match="Task failed"):
        result.return_value  # noqa: B018
    (error,) = result.errors
    assert error.exception_class is ValueError
    assert error.traceback.startswith("Traceback (most recent call last)")
    assert error.traceback.rstrip().endswith("ValueError: boom")


def test_a_running_job_says_so():
    result = tasks.add.enqueue(1, 2)
    api.claim_ready_jobs()

    result.refresh()

    assert (result.status, result.state) == (RUNNING, "running")
    assert result.attempts == len(result.worker_ids) == 1
    assert result.started_at is not None
    assert not result.is_finished
    with pytest.raises(ValueError, match="not finished"):
        result.return_value  # noqa: B018


def test_a_refresh_works_in_place_and_from_a_coroutine():
    result = tasks.boom.enqueue()
    again = tasks.boom.get_result(result.id)
    run_one()

    result.refresh()
    async_to_sync(again.arefresh)()

    assert result == again
    assert (again.state, again.reason) == ("failed", "error")


def test_the_result_that_the_worker_announces_equals_the_stored_one():
    for task, args in ((tasks.add, (1, 2)), (tasks.boom, ()), (tasks.chained, ())):
        task.enqueue(*args)
        announced = run_one()
        stored = backend.get_result(announced.id)
        assert announced.errors == stored.errors
        assert announced.worker_ids == stored.worker_ids
        assert announced.args == stored.args
        for name in ("status", "state", "reason", "_return_value"):
            assert getattr(announced, name) == getattr(stored, name)
        for name in ("enqueued_at", "started_at", "finished_at", "last_attempted_at"):
            apart = abs(getattr(announced, name) - getattr(stored, name))
            assert apart <= timedelta(microseconds=1)


def test_each_attempt_adds_a_worker_and_the_first_start_is_kept():
    result = tasks.succeed_on.enqueue(3)

    seen = [run_one(), run_one(), run_one()]
    result.refresh()

    assert [r.status for r in seen] == [READY, READY, SUCCESSFUL]
    assert [r.attempts for r in seen] == [1, 2, 3]
    assert result.worker_ids == [r.worker_ids[-1] for r in seen]
    assert len(set(result.worker_ids)) == 3
    assert [e.exception_class_path for e in result.errors] == [
        "builtins.ValueError"
    ] * 2
    assert result.return_value == 3
    assert result.started_at < result.last_attempted_at


def test_a_job_that_was_cancelled_before_it_ran_failed_with_that_cause():
    result = tasks.noop.enqueue()
    lifecycle.cancel(dialect(), [result.id])

    result.refresh()

    assert (result.status, result.state) == (FAILED, "cancelled")
    assert result.reason == "cancelled"
    assert result.errors[0].exception_class_path == "windlass.exceptions.JobCancelled"
    assert result.attempts == 0
    assert result.finished_at is not None


def test_a_discarded_job_is_successful_without_a_value():
    result = tasks.noop.enqueue()
    lifecycle.discard(dialect(), [result.id], reason="limit")

    result.refresh()

    assert (result.status, result.state) == (SUCCESSFUL, "discarded")
    assert result.reason == "limit"
    assert result.return_value is None


def test_a_blocked_job_is_ready_to_django():
    result = tasks.noop.enqueue()
    lifecycle.block(dialect(), [result.id], "limit")

    result.refresh()

    assert (result.status, result.state) == (READY, "blocked")


# Values


def test_results_can_be_pickled_hashed_compared_and_ordered():
    first, second = tasks.add.enqueue(1, 2), tasks.boom.enqueue()
    run_ready()
    results = [backend.get_result(result.id) for result in (first, second)]

    for result in (*results, first, second):
        assert pickle.loads(pickle.dumps(result)) == result
    assert sorted([second, first]) == [first, second]
    assert first < second
    assert second > first
    assert first <= second
    assert {first, results[0], second} >= {first}
    assert hash(first) == hash(results[0])
    assert first != results[0]
    first.refresh()
    assert first == results[0]


def test_a_result_cannot_be_changed_by_accident():
    result = tasks.noop.enqueue()

    with pytest.raises(AttributeError):
        result.status = SUCCESSFUL


@pytest.mark.django_db(transaction=True)
def test_many_coroutines_may_wait_for_one_result():
    async def look(result):
        return await asyncio.gather(*[result.arefresh() for _ in range(5)])

    result = tasks.add.enqueue(1, 2)
    run_one()
    async_to_sync(look)(result)

    assert result.return_value == 3
