"""A job shows itself as django-db-queue's model did, in words, columns and filters."""

from datetime import timedelta
from functools import partial

import pytest
from asgiref.sync import async_to_sync
from django.contrib.contenttypes.models import ContentType
from django.db.models import Count
from django.utils import timezone

from tests.running import run_one, run_ready
from windlass import api
from windlass.compat.models import DatabaseTask, QueueJob
from windlass.exceptions import EnqueueError
from windlass.models import Job, Node
from windlass.routers import WindlassRouter

pytestmark = pytest.mark.django_db
HERE = "tests.compat.steps"
STATES = QueueJob.STATES


@pytest.fixture(autouse=True)
def jobs(settings):
    settings.JOBS = {
        "greet": [f"{HERE}.step_one", f"{HERE}.step_two"],
        "fail": [f"{HERE}.fail"],
    }


def again(job):
    return QueueJob.objects.get(pk=job.pk)


def test_a_new_job_is_new_then_ready_then_complete():
    job = QueueJob.objects.create(name="greet", workspace={"key": 1}, priority=2)

    assert isinstance(job, QueueJob)
    assert (job.state, job.name, job.queue_name) == (STATES.NEW, "greet", "default")
    assert (job.workspace, job.priority) == ({"key": 1}, 2)
    assert job.next_task == f"{HERE}.step_one"
    assert job.created == job.modified == Job.objects.get().enqueued_at
    run_one()
    assert (again(job).state, again(job).next_task) == ("READY", f"{HERE}.step_two")
    assert again(job).workspace["message"] == "Hello, task 2!"
    run_one()
    assert again(job).state == STATES.COMPLETE == "COMPLETE"
    assert again(job).workspace["said"] == "Task 1 says: Hello, task 2!"
    assert again(job).modified == again(job).finished_at > job.created


def test_a_failed_step_is_failed():
    job = QueueJob.objects.create(name="fail")
    run_ready()

    assert again(job).state == STATES.FAILED
    assert str(again(job)) == f"fail {job.pk} (FAILED)"


def test_every_word_filters_what_shows_it():
    done = QueueJob.objects.create(name="greet")
    run_ready()
    run_ready()
    failed = QueueJob.objects.create(name="fail")
    run_ready()
    between = QueueJob.objects.create(name="greet")
    run_ready()
    running = QueueJob.objects.create(name="greet", priority=9)
    api.claim_ready_jobs(1)
    new = QueueJob.objects.create(name="greet")
    later = QueueJob.objects.create(name="greet", run_after=timedelta(hours=1))
    cancelled = QueueJob.objects.create(name="greet")
    api.cancel_job(cancelled.pk)
    expected = {
        "COMPLETE": {done.pk},
        "FAILED": {failed.pk, cancelled.pk},
        "READY": {between.pk},
        "PROCESSING": {running.pk},
        "NEW": {new.pk, later.pk},
        "STOPPING": set(),
    }

    for word, ids in expected.items():
        found = QueueJob.objects.filter(state=word)
        assert {job.pk for job in found} == ids, word
        assert {job.state for job in found} <= {word}
    waiting = QueueJob.objects.filter(state__in=(STATES.NEW, STATES.READY))
    assert waiting.count() == 3
    for spelling in ("COMPLETE", "COMPLETED"):
        assert QueueJob.objects.get(state=spelling).pk == done.pk
    counted = QueueJob.objects.values_list("state").annotate(Count("pk")).order_by()
    assert dict(counted) == {word: len(ids) for word, ids in expected.items() if ids}


def test_a_job_whose_worker_is_about_to_end_is_stopping():
    job = QueueJob.objects.create(name="greet")
    api.claim_ready_jobs(1)
    node = Node.objects.get(pk=Job.objects.get().node)
    for details, word in (
        ({}, "PROCESSING"),
        ({"stopping": None}, "PROCESSING"),
        ({"stopping": "it was asked to"}, "STOPPING"),
    ):
        node.details = details
        node.save()

        assert again(job).state == word
        assert QueueJob.objects.get(state=word).pk == job.pk
    assert not QueueJob.objects.filter(state="PROCESSING").exists()


def test_columns_filter_and_sort():
    first = QueueJob.objects.create(name="greet", workspace={"owner": 7})
    second = QueueJob.objects.create(name="fail", queue_name="other", priority=3)

    objects = QueueJob.objects
    assert objects.get(name="fail").pk == second.pk
    assert objects.get(workspace__owner=7).pk == first.pk
    assert objects.get(queue_name="other").pk == second.pk
    ordered = objects.order_by("-priority", "created")
    assert [job.pk for job in ordered] == [second.pk, first.pk]
    assert not objects.filter(created__gt=timezone.now()).exists()


def test_depths_are_those_of_jobs():
    QueueJob.objects.create(name="greet", run_after=timedelta(hours=1))
    QueueJob.objects.create(name="greet", queue_name="mail")

    assert QueueJob.get_queue_depths() == {"default": 1, "mail": 1}
    assert QueueJob.get_queue_depths(exclude_future_jobs=True) == {"mail": 1}


def test_a_name_that_is_not_in_jobs_is_refused():
    with pytest.raises(EnqueueError, match="Did you mean 'greet'"):
        QueueJob.objects.create(name="great")

    assert not QueueJob.objects.exists()


def test_a_coroutine_creates_jobs_and_tasks_as_well():
    async def create():
        called = {"name": "tests.named.multiply", "args": [2, 3]}
        job = await QueueJob.objects.acreate(name="greet", workspace={"a": 1})
        return job, await DatabaseTask.objects.acreate(**called)

    job, task = async_to_sync(create)()

    assert (again(job).state, again(job).workspace) == ("NEW", {"a": 1})
    assert (task.status, task.args) == ("PENDING", [2, 3])


def test_a_job_can_neither_be_saved_nor_deleted():
    job = QueueJob.objects.create(name="greet")

    bulk = partial(QueueJob.objects.bulk_create, [job])
    for refused in (job.save, job.delete, bulk):
        with pytest.raises(TypeError, match="view"):
            refused()


def test_the_router_sends_jobs_where_jobs_are(settings):
    router = WindlassRouter()

    assert router.db_for_read(QueueJob) == router.db_for_read(Job) == "default"
    assert router.db_for_read(ContentType) is None
