"""Django's three signals: once each, with the right status; and their log lines."""

import logging

import pytest

from tests import tasks
from tests.running import fresh, run_ready
from windlass.tasks_api import (
    LOGGER_NAME,
    default_task_backend,
    task_enqueued,
    task_finished,
    task_started,
)

pytestmark = pytest.mark.django_db
backend = default_task_backend


@pytest.fixture
def heard():
    """Every signal sent, as (name, status, id)."""
    said = []
    signals = {
        "enqueued": task_enqueued,
        "started": task_started,
        "finished": task_finished,
    }
    receivers = []
    for name, signal in signals.items():

        def receiver(sender, task_result, name=name, **kwargs):
            said.append((name, str(task_result.status), task_result.id))

        signal.connect(receiver)
        receivers.append((signal, receiver))
    yield said
    for signal, receiver in receivers:
        signal.disconnect(receiver)


def test_each_signal_is_sent_once_with_the_status_of_its_moment(heard):
    result = tasks.add.enqueue(1, 2)
    run_ready()

    assert heard == [
        ("enqueued", "READY", result.id),
        ("started", "RUNNING", result.id),
        ("finished", "SUCCESSFUL", result.id),
    ]


def test_a_failure_is_announced_as_one(heard):
    tasks.boom.enqueue()
    run_ready()

    assert [said[:2] for said in heard] == [
        ("enqueued", "READY"),
        ("started", "RUNNING"),
        ("finished", "FAILED"),
    ]


def test_many_jobs_are_announced_one_by_one(heard):
    found = backend.enqueue_all([(tasks.noop, (), {})] * 3)

    assert heard == [("enqueued", "READY", result.id) for result in found]


def test_the_standard_log_lines_follow(caplog):
    with caplog.at_level(logging.DEBUG, LOGGER_NAME):
        good, bad = tasks.noop.enqueue(), tasks.boom.enqueue()
        run_ready()

    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    noop, boom = f"Task id={good.id} path=tests.tasks.noop", f"Task id={bad.id} path="
    assert [line for line in lines if good.id in line[1]] == [
        ("DEBUG", f"{noop} enqueued backend=default"),
        ("INFO", f"{noop} state=RUNNING"),
        ("INFO", f"{noop} state=SUCCESSFUL"),
    ]
    assert lines[-1] == ("ERROR", f"{boom}tests.tasks.boom state=FAILED")
    assert caplog.records[-1].exc_info[0] is ValueError


def test_no_log_line_is_made_for_a_level_that_is_off(caplog):
    with caplog.at_level(logging.WARNING, LOGGER_NAME):
        tasks.noop.enqueue()
        tasks.boom.enqueue()
        run_ready()

    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("signal", [task_started, task_finished])
def test_a_receiver_that_raises_breaks_no_job(signal, error, heard):
    def receiver(**kwargs):
        raise error("from a receiver")

    signal.connect(receiver)
    try:
        result = tasks.add.enqueue(1, 2)
        run_ready()
    finally:
        signal.disconnect(receiver)

    assert fresh(result).state == "succeeded"
    assert [said[0] for said in heard][:2] == ["enqueued", "started"]


def test_a_receiver_that_raises_breaks_no_enqueue():
    def receiver(**kwargs):
        raise ValueError("from a receiver")

    task_enqueued.connect(receiver)
    try:
        result = tasks.noop.enqueue()
    finally:
        task_enqueued.disconnect(receiver)

    assert fresh(result).state == "ready"
