"""Enqueue: what it gives back, what it stores, one call or many."""

from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.core.checks import run_checks
from django.utils import timezone

from tests import tasks
from tests.running import fresh, run_ready
from windlass import Task, api
from windlass.exceptions import EnqueueError
from windlass.models import Job
from windlass.tasks_api import TaskResultStatus, default_task_backend, task_backends

pytestmark = pytest.mark.django_db
backend = default_task_backend


# What enqueue gives back


def test_the_backend_can_all_that_djangos_api_knows():
    assert backend.supports_defer
    assert backend.supports_async_task
    assert backend.supports_get_result
    assert backend.supports_priority
    assert backend.task_class is Task


def test_an_enqueued_result_is_ready_and_has_not_started():
    result = tasks.noop.enqueue(1, two=(2, 3))

    assert result.status == TaskResultStatus.READY
    assert result.state == "ready"
    assert result.id
    assert (result.args, result.kwargs) == ([1], {"two": [2, 3]})
    assert result.attempts == 0
    assert result.errors == result.worker_ids == []
    assert result.started_at is result.finished_at is result.last_attempted_at is None
    assert result.enqueued_at is not None
    assert not result.is_finished
    assert result.backend == "default"
    with pytest.raises(ValueError, match="not finished"):
        result.return_value  # noqa: B018


def test_a_coroutine_can_enqueue_and_fetch():
    async def both():
        result = await tasks.add.aenqueue(1, 2)
        return result, await tasks.add.aget_result(result.id)

    result, found = async_to_sync(both)()

    assert result == found
    assert result.status == TaskResultStatus.READY


def test_the_job_is_stored_as_it_was_called():
    before = timezone.now() - timedelta(seconds=5)
    result = tasks.noop.using(priority=7, queue_name="mail").enqueue(1, b=2)

    job = fresh(result)

    assert (job.task_path, job.args, job.kwargs) == ("tests.tasks.noop", [1], {"b": 2})
    assert (job.priority, job.queue_name, job.backend_alias) == (7, "mail", "default")
    assert (job.state, job.attempts, job.max_attempts) == ("ready", 0, 1)
    assert before < job.enqueued_at < timezone.now() + timedelta(seconds=5)
    assert job.run_after == job.enqueued_at


def test_a_job_for_later_is_scheduled_and_stays_so():
    in_an_hour = timezone.now() + timedelta(hours=1)

    result = tasks.noop.using(run_after=in_an_hour).enqueue()

    assert (result.status, result.state) == (TaskResultStatus.READY, "scheduled")
    assert fresh(result).state == "scheduled"
    assert fresh(result).run_after == in_an_hour
    assert run_ready() == []


def test_run_after_may_be_a_timedelta():
    result = tasks.noop.using(run_after=timedelta(hours=1)).enqueue()

    wait = fresh(result).run_after - result.enqueued_at

    assert timedelta(minutes=59) < wait < timedelta(minutes=61)


def test_a_time_that_has_passed_means_now():
    result = tasks.noop.using(run_after=timedelta(hours=-1)).enqueue()

    assert result.state == "ready"
    assert tasks.noop.get_result(result.id) == result
    assert run_ready()


def test_metadata_goes_with_the_job():
    result = tasks.look.using(metadata={"tenant": 7, "tags": ("a", "b")}).enqueue()

    assert result.metadata == {"tenant": 7, "tags": ["a", "b"]}
    assert fresh(result).metadata == result.metadata
    (done,) = run_ready()
    assert done.return_value["metadata"] == result.metadata


# Many at once


def test_many_jobs_are_stored_by_one_statement(django_assert_max_num_queries):
    calls = [(tasks.add, (n, 1), {}) for n in range(50)]

    with django_assert_max_num_queries(4):
        found = backend.enqueue_all(calls)

    assert [result.args for result in found] == [[n, 1] for n in range(50)]
    assert sorted(found) == found
    assert tasks.add.get_result(found[7].id) == found[7]
    assert [job.args[0] for job in Job.objects.order_by("id")] == list(range(50))


def test_many_jobs_may_be_of_different_tasks_and_none():
    later = tasks.noop.using(run_after=timedelta(hours=1), metadata={"a": 1})

    found = backend.enqueue_all(iter([(tasks.add, [1, 2], {}), (later, [], {"x": 1})]))

    assert [result.state for result in found] == ["ready", "scheduled"]
    assert tasks.noop.get_result(found[1].id) == found[1]
    assert backend.enqueue_all([]) == []


def test_a_coroutine_can_enqueue_many():
    calls = [(tasks.add, (n, n), {}) for n in range(3)]

    found = async_to_sync(backend.aenqueue_all)(calls)

    assert [fresh(result).args for result in found] == [[0, 0], [1, 1], [2, 2]]


def test_one_bad_call_of_many_stores_none():
    calls = [(tasks.add, (1, 2), {}), (tasks.add, (1, object()), {})]

    with pytest.raises(EnqueueError, match=r"args\[1\] is of type object"):
        backend.enqueue_all(calls)

    assert not Job.objects.exists()


# Aliases and checks


def test_an_alias_sees_only_its_own_jobs(settings):
    entry = {"BACKEND": "windlass.backend.WindlassBackend", "QUEUES": []}
    settings.TASKS = {"default": entry, "other": entry}
    result = tasks.noop.using(backend="other").enqueue()

    assert result.backend == "other"
    assert task_backends["other"].get_result(result.id) == result
    with pytest.raises(Exception, match=result.id):
        backend.get_result(result.id)
    assert api.claim_ready_jobs(5) == []
    assert len(api.claim_ready_jobs(5, backend_alias="other")) == 1


def test_djangos_check_framework_asks_the_backend(settings):
    without = [app for app in settings.INSTALLED_APPS if app != "windlass"]
    settings.INSTALLED_APPS = without

    assert "windlass.E001" in [message.id for message in run_checks()]
