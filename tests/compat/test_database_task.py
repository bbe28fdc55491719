"""A job shows itself as django-task-worker's model did, in words, types and filters."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db.models import Count, Q
from django.urls import reverse
from django.utils import timezone

from tests.running import run_one, run_ready
from windlass import api
from windlass.compat.client import create_task, wait_for_completion
from windlass.compat.models import DatabaseTask
from windlass.exceptions import EnqueueError
from windlass.models import Job
from windlass.routers import WindlassRouter

pytestmark = pytest.mark.django_db


def task(job):
    return DatabaseTask.objects.get(pk=job.pk)


@pytest.fixture
def one_of_each():
    """A task in each state that this test's thread can bring about."""
    done = create_task("tests.named.multiply", args=[2, 3])
    failed = create_task("tests.named.fail", args=["no"])
    retried = create_task("tests.named.fail", args=["not yet"], max_attempts=2)
    run_ready()
    held = create_task("tests.named.multiply", args=[1])
    api.claim_ready_jobs(1)
    ready = create_task("tests.named.multiply", args=[1])
    later = create_task("tests.named.multiply", [1], run_after=timedelta(hours=1))
    cancelled = create_task("tests.named.multiply", args=[1])
    api.cancel_job(cancelled.id)
    discarded = create_task("tests.named.fail", args=["gone"])
    api.discard_ready_jobs([discarded.id])
    return {
        "PENDING": {retried.pk, ready.pk, later.pk},
        "PROGRESS": {held.pk},
        "COMPLETED": {done.pk},
        "FAILED": {failed.pk, cancelled.pk, discarded.pk},
    }


def test_a_new_task_is_pending():
    task = create_task("tests.named.multiply", args=[2], kwargs={"b": 3}, timeout=20)

    assert isinstance(task, DatabaseTask)
    assert (task.status, task.name) == ("PENDING", "tests.named.multiply")
    assert (task.args, task.kwargs, task.timeout) == ([2], {"b": 3}, 20)
    assert (task.result, task.error, task.retry_count) == (None, None, 0)
    assert (task.started_at, task.finished_at, task.duration) == (None, None, None)
    assert task.created_at == task.updated_at == Job.objects.get().enqueued_at
    assert str(task) == f"Task {task.id}: tests.named.multiply (PENDING)"


def test_a_completed_task_has_its_result_as_text():
    made = create_task("tests.named.multiply", args=[2, 3])
    run_one()

    task = wait_for_completion(made.id, timeout=0)

    assert isinstance(task, DatabaseTask)
    assert str(task) == f"Task {made.id}: tests.named.multiply (COMPLETED)"
    assert task.result == "6"
    assert task.error is None
    assert task.updated_at == task.finished_at >= task.started_at >= task.created_at
    assert task.duration == (task.finished_at - task.started_at).total_seconds()


def test_a_failed_task_says_the_class_and_message_of_its_error():
    made = create_task("tests.named.fail", args=["no bread"])
    run_one()

    task = wait_for_completion(made.id, timeout=0)

    assert (task.status, task.result) == ("FAILED", None)
    assert task.error == "ValueError: no bread"


@pytest.mark.parametrize("message", ["two\nlines", "", "  with spaces  "])
def test_an_error_is_its_class_and_the_first_line_of_its_message(message):
    made = create_task("tests.named.fail", args=[message])
    run_one()

    assert task(made).error == f"ValueError: {message}".splitlines()[0].rstrip(": ")


def test_a_task_that_waits_for_a_retry_is_pending_and_not_failed():
    made = create_task("tests.named.fail", args=["once"], max_attempts=2)
    run_one()

    waiting = task(made)

    assert (waiting.status, waiting.retry_count) == ("PENDING", 0)
    assert waiting.error == "ValueError: once"
    assert waiting.updated_at > waiting.created_at
    assert wait_for_completion(made.id, timeout=0) is None

    api.run_now(made.id)
    run_one()

    assert (task(made).status, task(made).retry_count) == ("FAILED", 1)


def test_a_running_task_has_neither_result_nor_error():
    made = create_task("tests.named.fail", args=["before"], max_attempts=2)
    run_one()
    api.run_now(made.id)
    api.claim_ready_jobs(1)

    running = task(made)

    assert (running.status, running.error, running.result) == ("PROGRESS", None, None)
    assert running.updated_at == running.started_at


def test_what_was_cancelled_or_discarded_is_failed_and_says_why():
    cancelled = create_task("tests.named.multiply", args=[1])
    api.cancel_job(cancelled.id, reason="not wanted")
    discarded = create_task("tests.named.multiply", args=[1])
    api.discard_ready_jobs([discarded.id])

    assert task(cancelled).status == task(discarded).status == "FAILED"
    assert "not wanted" in task(cancelled).error
    assert task(discarded).result is None


def test_every_word_filters_what_shows_it(one_of_each):
    objects = DatabaseTask.objects

    for word, ids in one_of_each.items():
        found = objects.filter(status=word)
        assert {task.pk for task in found} == ids
        assert {task.status for task in found} == {word}
    assert objects.count() == sum(map(len, one_of_each.values()))
    ended = {*one_of_each["COMPLETED"], *one_of_each["FAILED"]}
    found = objects.filter(status__in=["COMPLETED", "FAILED"])
    assert {task.pk for task in found} == ended
    assert objects.exclude(status="PENDING").count() == 5


def test_complete_is_another_spelling_of_completed(one_of_each):
    for spelling in ("COMPLETE", "COMPLETED"):
        for found in (
            DatabaseTask.objects.filter(status=spelling),
            DatabaseTask.objects.filter(Q(status__in=[spelling])),
        ):
            assert {task.pk for task in found} == one_of_each["COMPLETED"]


def test_statuses_are_counted_in_one_query(one_of_each, django_assert_num_queries):
    with django_assert_num_queries(1):
        rows = DatabaseTask.objects.values_list("status").annotate(Count("pk"))
        counts = dict(rows.order_by("status"))

    assert counts == {word: len(ids) for word, ids in one_of_each.items()}


def test_the_other_columns_filter_and_sort():
    first = create_task("tests.named.multiply", args=[1])
    second = create_task("tests.named.fail", args=["x"], max_attempts=2)
    run_ready()
    api.run_now(second.id)
    run_ready()

    objects = DatabaseTask.objects
    assert objects.get(name="tests.named.fail").pk == second.pk
    assert objects.get(retry_count__gt=0).pk == second.pk
    assert [task.pk for task in objects.order_by("-created_at")] == [
        second.pk,
        first.pk,
    ]
    assert objects.filter(created_at__gt=timezone.now()).count() == 0


def test_a_task_can_be_read_again():
    made = create_task("tests.named.multiply", args=[2, 3])
    run_one()

    made.refresh_from_db()

    assert (made.status, made.result) == ("COMPLETED", "6")


def test_jobs_of_every_door_are_seen():
    from tests.tasks import add

    add.enqueue(1, 2)

    assert DatabaseTask.objects.get().name == "tests.tasks.add"


def test_what_may_not_be_named_is_refused():
    with pytest.raises(EnqueueError):
        create_task("os.system", args=["true"])

    assert not DatabaseTask.objects.exists()


def test_a_task_cannot_be_saved():
    made = create_task("tests.named.multiply", args=[1])

    with pytest.raises(TypeError, match="view"):
        made.save()


def test_the_router_sends_tasks_where_jobs_are():
    router = WindlassRouter()

    assert router.db_for_read(DatabaseTask) == router.db_for_read(Job) == "default"


def test_the_admin_shows_tasks_and_changes_none(client):
    client.force_login(User.objects.create_superuser("root"))
    made = create_task("tests.named.multiply", args=[2, 3])

    page = client.get(reverse("admin:windlass_compat_databasetask_changelist"))
    one = reverse("admin:windlass_compat_databasetask_change", args=[made.pk])

    assert "PENDING" in page.text
    assert client.get(one).status_code == 200
    assert client.post(one, {"status": "COMPLETED"}).status_code == 403
