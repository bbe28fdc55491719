"""The test backends: Django's two, with our policies and our refusals."""

from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction

from tests import tasks
from windlass import api, task
from windlass.exceptions import EnqueueError
from windlass.tasks_api import DummyBackend as DjangosDummy
from windlass.tasks_api import ImmediateBackend as DjangosImmediate
from windlass.tasks_api import (
    InvalidTask,
    TaskResultDoesNotExist,
    TaskResultStatus,
    default_task_backend,
    task_enqueued,
    task_finished,
    task_started,
)
from windlass.testing.backends import DummyBackend, ImmediateBackend

backend = default_task_backend


def use(settings, name, **entry):
    path = f"windlass.testing.backends.{name}Backend"
    settings.TASKS = {"default": {"BACKEND": path, "QUEUES": [], **entry}}


@pytest.fixture
def immediate(settings):
    use(settings, "Immediate")


@pytest.fixture
def dummy(settings):
    use(settings, "Dummy")


@pytest.fixture(params=["Immediate", "Dummy"])
def either(request, settings):
    use(settings, request.param)


def plain(a, b=2):
    return a + b


# Both


def test_they_are_djangos():
    assert issubclass(ImmediateBackend, DjangosImmediate)
    assert issubclass(DummyBackend, DjangosDummy)


def test_they_take_our_policies(either):
    made = task(max_attempts=3, backoff=5, retry_on=OSError, on_lost="fail")(plain)
    called = made.using(metadata={"a": (1,)}, priority=5)

    assert called.max_attempts == 3
    assert tasks.add.using(metadata={"a": (1,)}).enqueue(1, 2).metadata == {"a": [1]}


def test_they_refuse_what_the_real_one_refuses(either):
    with pytest.raises(EnqueueError, match=r"args\[0\] is of type object"):
        tasks.noop.enqueue(object())
    with pytest.raises(TypeError, match=r"kwargs\['x'\] is of type float"):
        tasks.noop.enqueue(x=float("nan"))
    with pytest.raises(InvalidTask, match="priority"):
        tasks.noop.using(priority=1000)
    with pytest.raises(EnqueueError, match="max_attempts"):
        task(max_attempts=0)(plain)
    with pytest.raises(EnqueueError, match="must be a list and a dict"):
        backend.enqueue(tasks.noop, None, {})


def test_they_hand_arguments_through_json(either):
    given = [1, (2, 3)]

    result = tasks.echo.enqueue(given, x={1: b"one"})
    given.append(4)

    assert result.args == [[1, [2, 3]]]
    assert result.kwargs == {"x": {"1": "one"}}


def test_they_enqueue_many_or_none(either):
    sent = []

    def receiver(task_result, **kwargs):
        sent.append(task_result.args)

    task_enqueued.connect(receiver)
    try:
        found = backend.enqueue_all([(tasks.add, (n, 1), {}) for n in range(3)])
        with pytest.raises(EnqueueError):
            backend.enqueue_all([(tasks.add, (9, 9), {}), (tasks.add, (set(),), {})])
    finally:
        task_enqueued.disconnect(receiver)

    assert [result.args for result in found] == sent == [[0, 1], [1, 1], [2, 1]]
    again = async_to_sync(backend.aenqueue_all)([(tasks.add, (1, 2), {})])
    assert again[0].args == [1, 2]
    assert async_to_sync(tasks.add.aenqueue)(1, 2).args == [1, 2]


def test_outside_a_transaction_on_commit_means_now_without_a_database(either):
    sent = []

    def receiver(task_result, **kwargs):
        sent.append((task_result.args, task_result.kwargs))

    task_enqueued.connect(receiver)
    try:
        api.enqueue_on_commit(tasks.noop, 1, using="mine")
        tasks.noop.enqueue_on_commit(2)
        with pytest.raises(EnqueueError):
            tasks.noop.enqueue_on_commit(object())
    finally:
        task_enqueued.disconnect(receiver)

    assert sent == [([1], {"using": "mine"}), ([2], {})]


@pytest.mark.django_db(transaction=True)
def test_in_a_transaction_on_commit_waits(dummy):
    with transaction.atomic():
        tasks.noop.enqueue_on_commit(1)
        assert backend.results == []

    assert [result.args for result in backend.results] == [[1]]


# Immediate


def test_a_function_and_a_coroutine_run_at_once(immediate):
    first, second = tasks.add.enqueue(1, 2), tasks.add_later.enqueue(3, 4)

    assert (first.return_value, second.return_value) == (3, 7)
    assert first.status == TaskResultStatus.SUCCESSFUL
    assert first.attempts == 1
    assert first.enqueued_at <= first.started_at <= first.finished_at
    assert async_to_sync(tasks.add_later.aenqueue)(1, 1).return_value == 2


def test_an_error_is_the_results(immediate):
    result = tasks.boom.enqueue()

    assert (result.status, result.state) == (TaskResultStatus.FAILED, "failed")
    assert result.errors[0].exception_class is ValueError
    assert tasks.exit_now.enqueue().status == TaskResultStatus.FAILED
    assert tasks.stubborn.enqueue().status == TaskResultStatus.FAILED
    assert tasks.control.enqueue("cancel").state == "cancelled"
    assert tasks.control.enqueue("retry").state == "failed"
    assert tasks.control.enqueue("snooze", 5).status == TaskResultStatus.READY


def test_ctrl_c_ends_the_test(immediate):
    with pytest.raises(KeyboardInterrupt):
        tasks.leave.enqueue("KeyboardInterrupt")


def test_the_context_needs_no_database(immediate):
    result = tasks.remember.using(metadata={"first": 1}).enqueue(second=2)

    assert result.status == TaskResultStatus.SUCCESSFUL
    assert result.metadata == {"first": 1, "second": 2}
    assert result.progress["current"] == 3
    assert async_to_sync(tasks.remember_later.aenqueue)(a=1).metadata == {"a": 1}
    assert tasks.look.enqueue().return_value["attempt"] == 1


def test_metadata_of_one_call_is_not_anothers(immediate):
    called = tasks.remember.using(metadata={"first": 1})

    called.enqueue(second=2)

    assert called.metadata == {"first": 1}
    assert called.enqueue(third=3).metadata == {"first": 1, "third": 3}


def test_a_value_that_json_cannot_hold_fails_as_it_would(immediate):
    result = tasks.give.enqueue("object")

    assert result.status == TaskResultStatus.FAILED
    assert "the return value is of type object" in result.errors[0].traceback


def test_signals_are_sent_in_order(immediate):
    seen = []
    receivers = []
    for name, signal in (("enqueued", task_enqueued), ("started", task_started)):

        def receiver(task_result, name=name, **kwargs):
            seen.append((name, str(task_result.status)))

        signal.connect(receiver)
        receivers.append((signal, receiver))

    def finished(task_result, **kwargs):
        seen.append(("finished", str(task_result.status)))

    task_finished.connect(finished)
    try:
        tasks.noop.enqueue()
    finally:
        task_finished.disconnect(finished)
        for signal, receiver in receivers:
            signal.disconnect(receiver)

    assert seen == [
        ("enqueued", "READY"),
        ("started", "RUNNING"),
        ("finished", "SUCCESSFUL"),
    ]


# Dummy


def test_the_dummy_keeps_what_was_enqueued(dummy):
    result = tasks.add.using(priority=3).enqueue(1, b=2)

    assert backend.results == [result]
    assert backend.results[0] is not result
    assert result.status == TaskResultStatus.READY
    assert backend.get_result(result.id) == result
    with pytest.raises(TaskResultDoesNotExist):
        backend.get_result("unknown")
    backend.clear()
    assert backend.results == []


def test_the_dummy_takes_a_time(dummy):
    result = tasks.add.using(run_after=timedelta(hours=1)).enqueue(1, 2)

    assert result.state == "scheduled"
