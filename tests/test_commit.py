"""Enqueue and the caller's transaction: what commits, what rolls back, who sees it."""

import asyncio
from contextlib import contextmanager, suppress
from datetime import timedelta

import pytest
from django.db import connections, transaction

from tests import tasks
from tests.running import fresh
from windlass import api
from windlass.exceptions import EnqueueError
from windlass.models import Job, LiveJob
from windlass.tasks_api import LOGGER_NAME, default_task_backend

pytestmark = pytest.mark.django_db
backend = default_task_backend


@contextmanager
def rolled_back():
    with suppress(ZeroDivisionError), transaction.atomic():
        yield
        raise ZeroDivisionError


def in_another_connection(function):
    """Ask as someone else would, who sees only what is committed."""

    def ask():
        try:
            return function()
        finally:
            connections.close_all()

    return asyncio.run(asyncio.to_thread(ask))


@pytest.mark.django_db(transaction=True)
def test_commit_keeps_the_job_and_nobody_sees_it_before():
    with transaction.atomic():
        result = tasks.noop.enqueue()
        seen_before = in_another_connection(lambda: LiveJob.objects.count())

    assert seen_before == 0
    assert in_another_connection(lambda: fresh(result).state) == "ready"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("many", [1, 2, 300])
def test_rollback_removes_the_jobs(many):
    with rolled_back():
        backend.enqueue_all([(tasks.noop, (), {})] * many)

    assert not Job.objects.exists()


def test_a_savepoint_that_is_rolled_back_takes_its_jobs_with_it():
    kept = tasks.noop.enqueue("outer")
    with rolled_back():
        tasks.noop.enqueue("inner")

    assert [str(job.pk) for job in Job.objects.all()] == [kept.id]


@pytest.mark.django_db(transaction=True)
def test_enqueue_on_commit_waits_for_the_outermost_commit():
    with transaction.atomic():
        with transaction.atomic():
            api.enqueue_on_commit(tasks.noop, 1)
            tasks.noop.enqueue_on_commit(2, task="mine", self="too")
        assert not Job.objects.exists()

    jobs = Job.objects.order_by("id")
    assert [(job.args, job.kwargs) for job in jobs] == [
        ([1], {}),
        ([2], {"task": "mine", "self": "too"}),
    ]


@pytest.mark.django_db(transaction=True)
def test_enqueue_on_commit_is_forgotten_with_its_savepoint():
    with transaction.atomic():
        api.enqueue_on_commit(tasks.noop, "kept")
        with rolled_back():
            api.enqueue_on_commit(tasks.noop, "gone")

    assert [job.args for job in Job.objects.all()] == [["kept"]]


@pytest.mark.django_db(transaction=True)
def test_enqueue_on_commit_outside_a_transaction_stores_at_once():
    api.enqueue_on_commit(tasks.noop, using="a keyword of the task")

    assert Job.objects.get().kwargs == {"using": "a keyword of the task"}


def test_enqueue_on_commit_keeps_the_arguments_as_they_were(
    django_capture_on_commit_callbacks,
):
    given = [1]
    with django_capture_on_commit_callbacks(execute=True):
        api.enqueue_on_commit(tasks.noop, given)
        given.append(2)

    assert Job.objects.get().args == [[1]]


def test_enqueue_on_commit_refuses_bad_input_at_once():
    with pytest.raises(EnqueueError, match=r"args\[0\] is of type object"):
        api.enqueue_on_commit(tasks.noop, object())
    with pytest.raises(EnqueueError, match="out of range"):
        tasks.noop.using(run_after=timedelta(days=999_999_999))


def test_enqueue_on_commit_needs_a_backend_of_ours(settings):
    settings.TASKS = {
        "default": {"BACKEND": f"{LOGGER_NAME}.backends.dummy.DummyBackend"}
    }

    with pytest.raises(EnqueueError, match="not one of Windlass"):
        api.enqueue_on_commit(tasks.noop)
