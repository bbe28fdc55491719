"""Cancelling a job ends its code, wherever it is, and it is never tried again."""

import signal
import statistics
import time

import pytest
from django.db import connection, transaction

from tests.integration.project import stubborn, tasks
from tests.integration.runtime import is_running, workers
from tests.integration.states import job, states
from tests.waiting import eventually
from windlass import api
from windlass.models import CancelRequest
from windlass.signals import job_cancelled

OPTIONS = {**workers(threads=3), "stop_grace": 0.5, "shutdown_timeout": 5}
SOON = {"postgresql": 1.0}.get(connection.vendor, 2.0)


def started(journal, result):
    return eventually(lambda: journal.starts(result.id))


def assert_cancelled(result, why):
    found = job(result)
    assert (found.state, found.reason) == ("cancelled", "cancelled")
    assert why in found.errors[-1].traceback
    assert found.errors[-1].exception_class_path == "windlass.exceptions.JobCancelled"


def test_a_waiting_job_is_cancelled_at_once(start, committed):
    result = tasks.work.enqueue()

    assert api.cancel_job(result.id, "not needed") is True

    assert_cancelled(result, "not needed")
    assert api.cancel_job(result.id) is False
    assert tasks.work.get_result(result.id).status == "FAILED"


@pytest.mark.parametrize("name", ["endless", "endless_swim", "endless_process"])
def test_a_running_job_is_cancelled_and_not_tried_again(start, journal, name):
    runtime = start(options=OPTIONS)
    pids = runtime.worker()
    result = getattr(stubborn, name).enqueue()
    (line,) = started(journal, result)
    neighbour = tasks.work.enqueue(0.2)

    assert api.cancel_job(result.id, "wrong file") is True

    eventually(lambda: job(result).state == "cancelled")
    assert_cancelled(result, "wrong file")
    if name == "endless_process":
        assert not is_running(line.pid)
    eventually(lambda: job(neighbour).state == "succeeded")
    eventually(lambda: not CancelRequest.objects.exists())
    assert runtime.worker() == pids
    assert len(journal.starts(result.id)) == 1


def test_a_cancel_takes_effect_soon(start, journal):
    runtime = start(options=OPTIONS)
    runtime.worker()
    took = []
    for _ in range(5):
        result = stubborn.endless_process.enqueue()
        (line,) = started(journal, result)
        asked = time.monotonic()
        api.cancel_job(result.id)
        eventually(lambda line=line: not is_running(line.pid))
        took.append(time.monotonic() - asked)

    assert statistics.median(took) < SOON


def test_a_cancel_reaches_a_worker_that_drains(start, journal):
    runtime = start(options={**OPTIONS, "shutdown_timeout": 20})
    runtime.worker()
    result, other = stubborn.endless.enqueue(), stubborn.polite.enqueue()
    started(journal, result)
    started(journal, other)

    runtime.send(signal.SIGTERM)
    eventually(lambda: journal.ends(other.id))
    api.cancel_job(result.id)

    assert runtime.wait(10) == 0
    assert_cancelled(result, "was cancelled")


def test_code_that_does_not_want_to_be_cancelled_takes_its_process_along(
    start, journal
):
    runtime = start(options=OPTIONS)
    (pid,) = runtime.worker()
    result = stubborn.swallow.using().enqueue()
    started(journal, result)

    api.cancel_job(result.id, "enough")

    eventually(lambda: job(result).state in ("cancelled", "failed"))
    eventually(lambda: not is_running(pid))
    assert runtime.worker() != [pid]


def test_a_cancel_survives_the_death_of_the_worker(start, journal):
    runtime = start(options=OPTIONS)
    (_pid,) = runtime.worker()
    result = tasks.wait_for_again.enqueue("/nowhere")
    started(journal, result)

    runtime.send_to_group(signal.SIGKILL)
    runtime.wait()
    assert api.cancel_job(result.id, "while nobody was there") is True
    start(options=OPTIONS)

    eventually(lambda: job(result).state == "cancelled")
    assert_cancelled(result, "while nobody was there")
    assert len(journal.starts(result.id)) == 1


def test_a_cancel_that_is_rolled_back_was_never_asked_for(start, journal):
    start(options=OPTIONS)
    result = stubborn.polite.enqueue()
    started(journal, result)

    with transaction.atomic():
        assert api.cancel_job(result.id) is True
        transaction.set_rollback(True)

    assert not CancelRequest.objects.exists()
    assert states() == {"running": 1}


@pytest.mark.parametrize("name", ["polite", "polite_process"])
def test_polite_code_sees_that_its_worker_stops(start, journal, name):
    runtime = start(options=OPTIONS)
    runtime.worker()
    result = getattr(stubborn, name).enqueue()
    started(journal, result)

    assert runtime.stop() == 0

    assert job(result).state == "succeeded"
    assert len(journal.ends(result.id)) == 1


def test_a_retry_after_a_cancel_is_not_cancelled_again(start, journal):
    start("--only-work", options=OPTIONS)
    result = stubborn.endless_swim.enqueue()
    started(journal, result)
    api.cancel_job(result.id)
    eventually(lambda: job(result).state == "cancelled")

    api.retry_failed_job(result.id)

    eventually(lambda: len(journal.starts(result.id)) == 2)
    assert job(result).state == "running"


def test_a_cancel_is_announced_with_its_commit(committed):
    heard = []
    receiver = lambda **said: heard.append(said["task_result"].state)  # noqa: E731
    job_cancelled.connect(receiver)
    first, second = tasks.work.enqueue(), tasks.work.enqueue()
    try:
        with transaction.atomic():
            api.cancel_job(first.id)
            transaction.set_rollback(True)
        assert not heard
        api.cancel_job(second.id)
    finally:
        job_cancelled.disconnect(receiver)

    assert heard == ["cancelled"]
    assert job(first).state == "ready"
