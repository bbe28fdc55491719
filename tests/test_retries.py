"""What follows a failure: when the next attempt runs, or why there is none."""

from datetime import timedelta

import pytest

from tests import tasks
from tests.running import fresh, run_one, run_ready
from windlass import Cancel, Retry, Snooze, api
from windlass.db import base
from windlass.jobs.retries import may_retry
from windlass.models import LiveJob
from windlass.signals import job_cancelled, job_retried, job_snoozed
from windlass.tasks_api import TaskResultStatus, task_finished

pytestmark = pytest.mark.django_db


@pytest.fixture
def heard():
    said = []
    signals = (task_finished, job_retried, job_snoozed, job_cancelled)
    names = ("finished", "retried", "snoozed", "cancelled")
    receivers = []
    for name, signal in zip(names, signals, strict=True):

        def receiver(task_result, name=name, **kwargs):
            said.append((name, str(task_result.status), task_result.state))

        signal.connect(receiver)
        receivers.append((signal, receiver))
    yield said
    for signal, receiver in receivers:
        signal.disconnect(receiver)


def wait_of(result):
    """The seconds from a job's last end to its next attempt, whole."""
    job = fresh(result)
    assert job.state == "scheduled"
    wait = job.run_after - base.Dialect("default").now()
    return round(wait.total_seconds() + 0.4)


def due(result):
    """Let time pass until a job may run again."""
    row = LiveJob.objects.get(pk=result.id)
    LiveJob.objects.filter(pk=row.pk).update(available_at=row.enqueued_at)


# Attempts


def test_a_failed_job_waits_for_its_next_attempt_and_keeps_the_error():
    result = tasks.stubborn.enqueue()
    run_one()

    result.refresh()

    assert (result.status, result.state) == (TaskResultStatus.READY, "scheduled")
    assert wait_of(result) == 60
    assert result.attempts == 1
    assert [error.exception_class for error in result.errors] == [ValueError]
    assert result.finished_at is None


def test_the_last_attempt_ends_the_job():
    result = tasks.stubborn.enqueue()
    for _attempt in range(3):
        run_one()
        if fresh(result).state == "scheduled":
            due(result)

    result.refresh()

    assert (result.status, result.attempts) == (TaskResultStatus.FAILED, 3)
    assert len(result.errors) == 3
    assert run_ready() == []


def test_one_attempt_is_the_default():
    result = tasks.boom.enqueue()
    run_one()

    assert fresh(result).state == "failed"


def test_the_backend_sets_what_a_task_leaves_open(settings):
    entry = {"BACKEND": "windlass.backend.WindlassBackend", "QUEUES": []}
    settings.TASKS = {"default": {**entry, "MAX_ATTEMPTS": 2, "BACKOFF": 30}}
    result = tasks.boom.enqueue()
    stubborn = tasks.stubborn.enqueue()
    run_ready()

    assert (fresh(result).max_attempts, wait_of(result)) == (2, 30)
    assert (fresh(stubborn).max_attempts, wait_of(stubborn)) == (3, 60)


def test_every_move_is_announced_as_what_it_is(heard):
    result = tasks.stubborn.enqueue()
    run_one()
    tasks.control.enqueue("snooze", 60)
    tasks.control.enqueue("cancel", "enough")
    run_ready()

    assert heard == [
        ("retried", "READY", "scheduled"),
        ("snoozed", "READY", "scheduled"),
        ("finished", "FAILED", "cancelled"),
        ("cancelled", "FAILED", "cancelled"),
    ]
    assert fresh(result).state == "scheduled"


# Which errors


@pytest.mark.parametrize(
    ("kind", "state"),
    [("OSError", "scheduled"), ("missing", "failed"), ("other", "failed")],
)
def test_only_the_errors_that_the_task_names_are_retried(kind, state):
    result = tasks.picky.enqueue(kind)
    run_one()

    assert fresh(result).state == state


def test_give_up_on_wins_over_retry_on():
    task = tasks.picky
    assert may_retry(task, OSError())
    assert not may_retry(task, FileNotFoundError())
    assert not may_retry(task, ValueError())
    assert may_retry(tasks.boom, ValueError())
    assert may_retry(tasks.boom, SystemExit())


# Control exceptions


def test_a_snooze_gives_the_attempt_back():
    result = tasks.control.enqueue("snooze", 90)
    run_one()

    job = fresh(result)

    assert wait_of(result) == 90
    assert (job.attempts, job.errors, job.worker_ids) == (0, [], [])
    due(result)
    assert run_one().attempts == 0


def test_a_retry_counts_and_chooses_its_delay():
    result = tasks.control.enqueue("retry", 45)
    run_one()

    assert wait_of(result) == 45
    assert fresh(result).attempts == 1
    path = fresh(result).errors[0].exception_class_path
    assert path == "windlass.jobs.retries.Retry"


def test_a_retry_without_attempts_left_fails():
    result = tasks.control.enqueue("retry", 0)
    for _attempt in range(3):
        run_one()

    assert (fresh(result).state, fresh(result).attempts) == ("failed", 3)


def test_a_task_can_cancel_itself():
    result = tasks.control.enqueue("cancel", "nothing to do")
    run_one()

    job = fresh(result)
    result.refresh()

    assert (job.state, job.reason, job.attempts) == ("cancelled", "cancelled", 1)
    assert result.status == TaskResultStatus.FAILED
    assert "nothing to do" in result.errors[0].traceback


def test_a_cancelled_job_can_be_retried():
    result = tasks.control.enqueue("cancel")
    run_one()

    api.retry_failed_job(result.id)

    assert (fresh(result).state, fresh(result).max_attempts) == ("ready", 4)


@pytest.mark.parametrize("delay", ["soon", -1, float("nan"), True, None, 10**10])
def test_a_control_exception_takes_a_delay_only(delay):
    with pytest.raises((TypeError, ValueError), match=r"Snooze\(delay\)"):
        Snooze(delay)
    if delay is not None:
        with pytest.raises((TypeError, ValueError), match=r"Retry\(delay\)"):
            Retry(delay)


def test_a_control_exception_says_what_it_does():
    assert str(Snooze(timedelta(minutes=1))) == "snoozed for 60 s"
    assert str(Retry()) == "the task asked for a retry"
    assert str(Cancel()) == "the task cancelled itself"


def test_a_backoff_that_says_stop_fails_the_job():
    result = tasks.hopeless.enqueue()
    run_one()

    assert (fresh(result).state, fresh(result).attempts) == ("failed", 1)


def test_retries_and_fresh_jobs_take_their_turns_by_age():
    # A retry that is due at once stands behind what was there, and before what comes.
    failing = tasks.succeed_on.enqueue(3)
    waiting = [tasks.add.enqueue(1, n) for n in range(2)]
    run_one()
    later = tasks.add.enqueue(2, 2)

    order = [run_one().id for _ in range(4)]

    assert order == [waiting[0].id, waiting[1].id, failing.id, later.id]
    assert run_one().return_value is not None
    assert fresh(failing).state == "succeeded"
