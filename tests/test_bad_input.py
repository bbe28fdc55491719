"""Bad input is refused where it enters, says why, and stores nothing."""

import functools
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from django.utils.translation import gettext_lazy

from tests import tasks
from windlass import task
from windlass.exceptions import EnqueueError, WindlassError
from windlass.models import Job
from windlass.tasks_api import InvalidTask, default_task_backend

backend = default_task_backend


@pytest.fixture(autouse=True)
def nothing_is_stored(db):
    yield
    assert not Job.objects.exists()


def takes_context_badly(first, context):
    pass


def no_arguments():
    pass


class InAClass:
    def method(self):
        pass

    @staticmethod
    def static():
        pass


# Arguments


def looped():
    loop = [1]
    loop.append({"again": loop})
    return loop


UNSTORABLE = {
    "object": (object(), "object"),
    "datetime": (datetime(2030, 1, 1), "datetime.datetime"),
    "decimal": (Decimal(1), "decimal.Decimal"),
    "set": ({1, 2}, "set"),
    "model": (User(username="x"), "django.contrib.auth.models.User"),
    "lazy text": (gettext_lazy("yes"), "django.utils.functional"),
    "function": (no_arguments, "function"),
    "bad bytes": (b"\xff", "bytes"),
    "nan": (float("nan"), "float"),
    "infinity": (float("-inf"), "float"),
    "nul": ("a\0b", "str"),
    "half a pair": ("\ud800", "str"),
    "other half": ("x\udfffx", "str"),
    "loop": (looped(), "list"),
    "too deep": (tasks.nested(501), "list"),
    "much too deep": (tasks.nested(100_000), "list"),
    "tuple as key": ({(1, 2): 3}, "dict"),
    "huge number": (10**5000, "int"),
}


@pytest.mark.parametrize("kind", UNSTORABLE)
def test_an_argument_that_json_cannot_hold_is_named_with_its_type(kind):
    value, type_name = UNSTORABLE[kind]

    with pytest.raises(EnqueueError) as positional:
        tasks.noop.enqueue("fine", value)
    with pytest.raises(EnqueueError) as by_name:
        tasks.noop.enqueue(fine=1, broken=value)

    said = str(positional.value)
    assert said.startswith("tests.tasks.noop cannot be enqueued: args[1]")
    assert f" is of type {type_name}" in said
    assert "Nothing was stored" in said
    assert len(said) < 500
    assert "kwargs['broken']" in str(by_name.value)


def test_the_innermost_part_at_fault_is_named():
    with pytest.raises(EnqueueError, match=r"args\[0\]\['rows'\]\[2\]\['id'\] is of"):
        tasks.noop.enqueue({"rows": [1, 2, {"id": object()}]})


def test_a_refused_argument_is_a_type_error_too():
    with pytest.raises(TypeError) as caught:
        tasks.noop.enqueue(object())

    assert isinstance(caught.value, WindlassError)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("call", [(None, {}), ("text", {}), ([], None), ({}, [])])
def test_a_call_that_is_no_list_and_dict_is_refused(call):
    with pytest.raises(EnqueueError, match="must be a list and a dict"):
        backend.enqueue(tasks.noop, *call)
    with pytest.raises(EnqueueError, match="must be a list and a dict"):
        backend.enqueue_all([(tasks.noop, *call)])


# The task and its options


@pytest.mark.parametrize("priority", [-101, 101, 1.5, 2.0, True, "high", "5"])
def test_a_priority_that_is_none_is_refused(priority):
    with pytest.raises(InvalidTask, match="priority must be a whole number"):
        tasks.noop.using(priority=priority)


@pytest.mark.parametrize("run_after", ["tomorrow", 60, timezone.now().date()])
def test_a_run_after_that_is_no_time_is_refused(run_after):
    with pytest.raises(InvalidTask, match="run_after must be an aware datetime"):
        tasks.noop.using(run_after=run_after)


def test_a_naive_run_after_is_refused(settings):
    settings.USE_TZ = True
    with pytest.raises(InvalidTask, match="run_after must be an aware datetime"):
        tasks.noop.using(run_after=datetime(2030, 1, 1))


@pytest.mark.parametrize(
    "run_after",
    [
        timedelta(days=999_999_999),
        timedelta(days=-999_999_999),
        datetime.max.replace(tzinfo=timezone.get_fixed_timezone(-60)),
        datetime.min.replace(tzinfo=timezone.get_fixed_timezone(60)),
    ],
)
def test_a_time_outside_the_calendar_is_refused(run_after):
    with pytest.raises(InvalidTask, match="out of range"):
        tasks.noop.using(run_after=run_after)


def test_a_queue_that_the_backend_does_not_have_is_refused(settings):
    entry = {"BACKEND": "windlass.backend.WindlassBackend", "QUEUES": ["default"]}
    settings.TASKS = {"default": entry}

    with pytest.raises(InvalidTask, match=r"tests\.tasks\.noop: .*'mail'"):
        tasks.noop.using(queue_name="mail")


def test_a_task_is_checked_again_when_it_is_enqueued(settings):
    made = tasks.noop.using(queue_name="mail")
    entry = {"BACKEND": "windlass.backend.WindlassBackend", "QUEUES": ["default"]}
    settings.TASKS = {"default": entry}

    with pytest.raises(InvalidTask, match="'mail' is not valid"):
        made.enqueue()
    with pytest.raises(InvalidTask, match="'mail' is not valid"):
        backend.enqueue_all([(tasks.noop, [], {}), (made, [], {})])
    with pytest.raises(InvalidTask, match="'mail' is not valid"):
        made.enqueue_on_commit()


@pytest.mark.parametrize(
    "name", ["", "q" * 256, "a\0b", "\ud800", "a\nb", " a", "a ", 5, ["a"]]
)
def test_a_queue_name_that_no_worker_could_ask_for_is_refused(name):
    with pytest.raises(InvalidTask, match="queue_name must be a name"):
        tasks.noop.using(queue_name=name)


def test_a_function_that_no_worker_can_import_is_refused():
    def local():
        pass

    functions = (
        *(local, lambda: None, InAClass.method, InAClass.static),
        *(functools.partial(no_arguments), print, InAClass, 5),
    )
    for function in functions:
        with pytest.raises(InvalidTask, match="at a module level"):
            task(function)


def test_a_path_that_is_too_long_is_refused(monkeypatch):
    monkeypatch.setattr(no_arguments, "__module__", "m" * 490)

    with pytest.raises(InvalidTask, match="over 500 characters"):
        task(no_arguments)


@pytest.mark.parametrize("function", [takes_context_badly, no_arguments])
def test_a_task_that_takes_its_context_must_take_it_first(function):
    with pytest.raises(InvalidTask, match="first argument of 'context'"):
        task(takes_context=True)(function)


def test_what_is_no_task_cannot_be_enqueued():
    for thing in (no_arguments, "tests.tasks.add", None):
        with pytest.raises(InvalidTask, match="is not a task"):
            backend.enqueue(thing, [], {})
        with pytest.raises(InvalidTask, match="is not a task"):
            backend.enqueue_all([(tasks.noop, [], {}), (thing, [], {})])


def test_a_task_of_another_alias_is_not_stored_here(settings):
    entry = {"BACKEND": "windlass.backend.WindlassBackend", "QUEUES": []}
    settings.TASKS = {"default": entry, "other": entry}
    elsewhere = tasks.noop.using(backend="other")

    with pytest.raises(InvalidTask, match=r"belongs to the backend 'other'"):
        backend.enqueue(elsewhere, [], {})
    with pytest.raises(InvalidTask, match=r"belongs to the backend 'other'"):
        backend.enqueue_all([(elsewhere, [], {})])


def test_metadata_that_changed_for_the_worse_is_refused_at_enqueue():
    made = tasks.noop.using(metadata={"a": 1})
    made.metadata["b"] = object()

    with pytest.raises(EnqueueError, match=r"metadata\['b'\] is of type object"):
        made.enqueue()


def test_every_refusal_of_a_task_is_also_djangos():
    with pytest.raises(InvalidTask) as caught:
        tasks.noop.using(priority=1000)

    assert isinstance(caught.value, EnqueueError)
