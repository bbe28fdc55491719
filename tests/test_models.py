"""Models: the view over both tables, and what the database itself refuses."""

import uuid
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from tests import tasks
from tests.running import fresh, run_one
from windlass import api, db
from windlass.jobs import lifecycle
from windlass.models import EndedJob, Job, LiveJob, Node, State
from windlass.models.history import errors_of, worker_id, workers_of
from windlass.models.jobs import ENDS
from windlass.models.view import parse_id
from windlass.tasks_api import default_task_backend

pytestmark = pytest.mark.django_db


# The view


def test_each_state_is_told_by_the_view():
    d = db.dialect("default")
    named = {
        "scheduled": tasks.noop.using(run_after=timedelta(hours=1)).enqueue(),
        "blocked": tasks.noop.enqueue(),
        "ready": tasks.noop.enqueue(),
        "cancelled": tasks.noop.enqueue(),
        "discarded": tasks.noop.enqueue(),
        "succeeded": tasks.noop.using(priority=3).enqueue(),
        "failed": tasks.boom.using(priority=2).enqueue(),
        "running": tasks.noop.using(priority=1).enqueue(),
    }
    lifecycle.block(d, [named["blocked"].id], "limit")
    lifecycle.cancel(d, [named["cancelled"].id])
    lifecycle.discard(d, [named["discarded"].id])
    run_one()
    run_one()
    api.claim_ready_jobs()

    assert {state: fresh(result).state for state, result in named.items()} == {
        state: state for state in named
    }
    assert set(named) == set(State.values)
    for state, result in named.items():
        assert [str(job.pk) for job in Job.objects.in_state(state)] == [result.id]
    assert Job.objects.in_state("ready", "running").count() == 2


def test_a_job_is_in_exactly_one_table_under_one_id():
    result = tasks.add.enqueue(1, 2)
    assert LiveJob.objects.filter(pk=result.id).count() == 1
    run_one()

    assert LiveJob.objects.count() == 0
    assert EndedJob.objects.filter(pk=result.id).count() == 1
    assert Job.objects.filter(pk=result.id).count() == 1


def test_a_job_reads_well():
    result = tasks.add.using(priority=5).enqueue(1, 2)
    assert fresh(result).duration is None
    run_one()

    job = fresh(result)

    assert job.name == job.task_path == "tests.tasks.add"
    assert str(job) == f"tests.tasks.add {result.id} (succeeded)"
    assert job.duration >= timedelta(0)
    assert job.priority == 5
    assert (job.return_value, job.errors) == (3, [])
    assert job.worker_ids == [worker_id(job.node)]
    assert str(EndedJob.objects.get()) == f"tests.tasks.add ({result.id})"


def test_the_ids_of_jobs_sort_by_age():
    found = default_task_backend.enqueue_all([(tasks.noop, (n,), {}) for n in range(9)])
    run_one()

    assert [str(job.pk) for job in Job.objects.order_by("id")] == [r.id for r in found]


def test_a_job_cannot_be_saved_or_deleted():
    job = fresh(tasks.noop.enqueue())

    with pytest.raises(TypeError, match=r"windlass\.api"):
        job.save()
    with pytest.raises(TypeError, match=r"windlass\.api"):
        job.delete()


# Named scopes


def test_the_scopes_of_live_jobs():
    d = db.dialect("default")
    later = tasks.noop.using(run_after=timedelta(hours=1)).enqueue()
    blocked, running = tasks.noop.enqueue(), tasks.noop.using(priority=1).enqueue()
    ready = tasks.noop.enqueue()
    lifecycle.block(d, [blocked.id], "limit")
    api.claim_ready_jobs()

    def ids(rows):
        return {str(row.pk) for row in rows}

    jobs = LiveJob.objects
    assert ids(jobs.running()) == {running.id}
    assert ids(jobs.waiting()) == {later.id, blocked.id, ready.id}
    assert ids(jobs.blocked()) == {blocked.id}
    assert ids(jobs.scheduled()) == {later.id}
    assert ids(jobs.ready()) == {ready.id}
    tomorrow = timezone.now() + timedelta(days=1)
    assert ids(jobs.ready(now=tomorrow)) == {ready.id, later.id}


def test_the_scopes_of_ended_jobs():
    tasks.noop.enqueue()
    run_one()

    assert EndedJob.objects.in_state("succeeded").count() == 1
    assert EndedJob.objects.in_state("failed").count() == 0
    assert EndedJob.objects.ended_before(timezone.now() + timedelta(1)).count() == 1
    assert EndedJob.objects.ended_before(timezone.now() - timedelta(1)).count() == 0


# What the database refuses


@pytest.mark.parametrize(
    "columns",
    [
        {"nice": 101},
        {"nice": -101},
        {"node": 5},
        {"started_at": timezone.now},
        {"node": 5, "started_at": timezone.now, "hold": "limit"},
        {"attempts": -1},
        {"claim": -1},
        {"max_attempts": 0},
    ],
)
def test_the_database_holds_the_invariants_of_a_live_job(columns):
    tasks.noop.enqueue()
    columns = {k: v() if callable(v) else v for k, v in columns.items()}

    with pytest.raises(IntegrityError), transaction.atomic():
        LiveJob.objects.update(**columns)


def test_the_database_refuses_an_end_that_is_none():
    tasks.noop.enqueue()
    run_one()

    for state in set(State.values) - set(ENDS):
        with pytest.raises(IntegrityError), transaction.atomic():
            EndedJob.objects.update(state=state)


# Small rules


def test_an_id_is_read_in_any_spelling_or_not_at_all():
    id = uuid.uuid4()

    for spelling in (id, str(id), id.hex, str(id).upper(), f"{{{id}}}", id.urn):
        assert parse_id(spelling) == id
    for nonsense in ("", "x", None, 5, b"", "0" * 31, [], "\0" * 32):
        assert parse_id(nonsense) is None


def test_past_attempts_tell_workers_and_errors():
    history = [
        {"worker": "a", "error": "builtins.ValueError", "traceback": "t"},
        {"worker": "b", "error": "", "traceback": ""},
    ]

    assert workers_of(history, 2, 7) == ["a", "b"]
    assert workers_of(history, 3, 7) == ["a", "b", worker_id(7)]
    assert workers_of(None, 0, None) == []
    assert [error.traceback for error in errors_of(history)] == ["t"]
    assert errors_of(None) == []


def test_a_node_reads_well():
    node = Node(id=255, name="worker-1", host="a/b/c", pid=7)

    assert str(node) == "worker-1 (a/b/c, pid 7)"
    assert node.worker_id == "00000000000000ff"
