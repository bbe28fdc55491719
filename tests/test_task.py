"""Task: Django's decorator with our policies, copied, compared and pickled."""

import copy
import pickle
from datetime import UTC, datetime, timedelta
from enum import IntEnum

import pytest
from django.utils import timezone

from tests import tasks
from tests.running import fresh
from windlass import Task, exponential, task, tasks_api
from windlass.exceptions import ConfigurationError, EnqueueError

django_task = __import__(
    "django_tasks" if tasks_api.BACKPORT else "django.tasks", fromlist=["task"]
).task


def plain(a, b=2):
    return a + b


decorated = task(plain)


# The decorator


def test_the_decorator_works_bare_called_and_with_options():
    for made in (task(plain), task()(plain), task(priority=5)(plain)):
        assert isinstance(made, Task)
        assert made.func is plain
        assert made.module_path == "tests.test_task.plain"
        assert made.name == "plain"


def test_the_policies_default_to_what_the_backend_says():
    assert decorated.max_attempts is None
    assert decorated.backoff is None
    assert decorated.retry_on is None
    assert decorated.give_up_on == ()
    assert decorated.on_lost is None
    assert decorated.metadata is None


def test_the_policies_are_kept():
    made = task(
        max_attempts=5,
        backoff=timedelta(seconds=3),
        retry_on=[OSError, KeyError],
        give_up_on=FileNotFoundError,
        on_lost="fail",
        metadata={"team": "mail"},
    )(plain)

    assert made.max_attempts == 5
    assert made.backoff == timedelta(seconds=3)
    assert made.retry_on == (OSError, KeyError)
    assert made.give_up_on == (FileNotFoundError,)
    assert made.on_lost == "fail"
    assert made.metadata == {"team": "mail"}


def test_djangos_own_decorator_makes_our_tasks():
    made = django_task(plain)

    assert isinstance(made, Task)
    assert made == decorated


def test_djangos_own_decorator_passes_our_options_on_where_it_can():
    try:
        made = django_task(max_attempts=3)(plain)
    except TypeError:
        pytest.skip("Django 6.0's decorator takes Django's options only")

    assert made.max_attempts == 3


def test_an_unknown_option_is_refused_with_its_path_and_the_nearest_name():
    with pytest.raises(ConfigurationError) as caught:
        task(max_atempts=3)(plain)

    assert "tests.test_task.plain" in str(caught.value)
    assert 'unknown option "max_atempts"; did you mean "max_attempts"?' in str(
        caught.value
    )


def test_an_option_like_no_other_is_refused_with_those_there_are():
    with pytest.raises(ConfigurationError, match=r'"zzz".*give_up_on'):
        task(zzz=3)(plain)


def test_run_after_cannot_be_an_option_of_the_decorator():
    with pytest.raises(TypeError, match="cannot be defined statically"):
        task(run_after=timedelta(hours=1))(plain)


# Using


def test_using_changes_a_copy():
    later = timezone.now() + timedelta(hours=1)

    made = decorated.using(
        priority=-7, queue_name="mail", run_after=later, metadata={"a": 1}
    )

    assert (made.priority, made.queue_name, made.run_after) == (-7, "mail", later)
    assert made.metadata == {"a": 1}
    assert (decorated.priority, decorated.queue_name) == (0, "default")
    assert decorated.run_after is decorated.metadata is None
    assert made.func is decorated.func


def test_using_keeps_what_it_is_not_told():
    made = tasks.stubborn.using(priority=3).using(queue_name="mail")

    assert (made.priority, made.queue_name) == (3, "mail")
    assert (made.max_attempts, made.backoff) == (3, 60)


def test_priority_zero_and_empty_metadata_are_values_too():
    made = decorated.using(priority=9, metadata={"a": 1}).using(priority=0, metadata={})

    assert (made.priority, made.metadata) == (0, {})


def test_a_timedelta_counts_from_the_call_of_using():
    before = timezone.now()

    made = decorated.using(run_after=timedelta(minutes=5))

    assert before <= made.run_after - timedelta(minutes=5) <= timezone.now()


def test_an_aware_time_is_naive_in_a_project_without_time_zones(settings):
    settings.USE_TZ = False
    noon = datetime(2030, 1, 1, 12, tzinfo=UTC)

    made = decorated.using(run_after=noon)

    assert made.run_after == timezone.make_naive(noon)


@pytest.mark.django_db
def test_a_priority_may_be_of_an_enum():
    class Urgency(IntEnum):
        HIGH = 50

    result = decorated.using(priority=Urgency.HIGH).enqueue(1)

    assert fresh(result).priority == 50


# Call


def test_a_task_can_be_called_directly():
    assert decorated.call(1) == 3
    assert tasks.add_later.call(1, 2) == 3


# Copies


ALL = [
    tasks.add,
    tasks.add.using(priority=7, queue_name="mail", metadata={"a": [1]}),
    tasks.add.using(run_after=timedelta(hours=1)),
    tasks.stubborn,
    tasks.picky,
    tasks.add_later,
    task(backoff=exponential(first=5, ceiling=600))(tasks.add.func),
    task(backoff=timedelta(seconds=5), on_lost="retry")(tasks.add.func),
]


@pytest.mark.parametrize("made", ALL)
def test_a_task_survives_pickling_and_copying(made):
    again = pickle.loads(pickle.dumps(made))

    assert again == made
    assert again.func is made.func
    assert hash(again) == hash(made)
    assert copy.deepcopy(made) == made
    assert copy.copy(made) == made


def test_a_pickled_task_that_is_no_task_any_more_says_so(monkeypatch):
    text = pickle.dumps(tasks.add)
    monkeypatch.setattr(tasks, "add", tasks.not_a_task)

    with pytest.raises(ValueError, match=r"tests\.tasks\.add"):
        pickle.loads(text)


def test_equal_tasks_are_one_in_a_set():
    assert len({task(plain), task(plain), task(plain).using(priority=1)}) == 2


def test_a_task_cannot_be_changed():
    with pytest.raises(AttributeError):
        decorated.priority = 3


# Policies that mean nothing


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("max_attempts", value) for value in (0, -1, 1.5, True, "3", 10_001)],
        *[("backoff", value) for value in (-1, True, [], timedelta(-1), float("nan"))],
        *[("retry_on", value) for value in (5, "ValueError", [ValueError, 5], int)],
        ("give_up_on", [object]),
        ("on_lost", "ignore"),
        *[("metadata", value) for value in ([1], "x", {"a": object()}, {"a": "\0"})],
    ],
)
def test_a_policy_that_means_nothing_is_refused_by_name(option, value):
    with pytest.raises(EnqueueError, match=rf"tests\.test_task\.plain: .*{option}"):
        task(**{option: value})(plain)


def test_a_single_class_or_any_collection_of_classes_will_do():
    for classes in (OSError, [OSError], {OSError}, frozenset({OSError}), (OSError,)):
        made = task(retry_on=classes)(plain)
        assert made.retry_on == (OSError,)
        assert hash(made)
