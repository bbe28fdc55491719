"""Recurring tasks in the settings: what they default to, and how mistakes are told."""

from datetime import timedelta

import pytest
from django.test import override_settings

from windlass import conf
from windlass.checks import check_backend
from windlass.conf_recurring import Recurring, SchedulerOptions, skips_recurring
from windlass.exceptions import ConfigurationError

BACKEND = "windlass.backend.WindlassBackend"
PLACE = 'TASKS["default"]["OPTIONS"]'


def parsed(**options):
    return conf.parse("default", {"BACKEND": BACKEND, "OPTIONS": options})


def entry(**said):
    return {"task_path": "tests.tasks.noop", "schedule": "@daily", **said}


def refusal(**options):
    with pytest.raises(ConfigurationError) as refused:
        parsed(**options)
    return str(refused.value)


def test_an_entry_that_says_little_gets_the_defaults():
    options = parsed(recurring={"nightly": entry()})

    assert options.recurring == (
        Recurring(
            key="nightly",
            task_path="tests.tasks.noop",
            schedule="@daily",
            args=[],
            kwargs={},
            queue_name="",
            priority=None,
            description="",
            timezone="",
            overlap="allow",
            missed="latest",
        ),
    )
    assert options.scheduler == SchedulerOptions(
        polling_interval=5, dynamic_tasks_enabled=True
    )
    assert parsed().recurring == ()


def test_what_is_given_is_kept_as_it_will_be_stored():
    (found,) = parsed(
        recurring={
            "x": entry(schedule=timedelta(minutes=1), args=(1, ("a",)), timezone="UTC")
        }
    ).recurring

    assert (found.schedule, found.args) == ("every 60s", [1, ["a"]])
    assert found.timing.zone.key == "UTC"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"schedule": "61 * * * *"}, '["recurring"]["x"]["schedule"]: '),
        ({"schedule": "0 0 30 2 *"}, '["recurring"]["x"]["schedule"]: '),
        ({"timezone": "Berlin"}, '["recurring"]["x"]["timezone"]: '),
        ({"shedule": 1}, '["recurring"]["x"]["shedule"]: unknown option; did you mean'),
        ({"priority": "high"}, '["recurring"]["x"]["priority"] must be'),
        ({"overlap": "wait"}, '["recurring"]["x"]["overlap"] must be one of "allow"'),
        ({"args": [1, {2}]}, '["recurring"]["x"]["args"][1] must be JSON'),
        ({"task_path": "noop"}, '["recurring"]["x"]["task_path"] must be'),
    ],
)
def test_a_mistake_is_told_with_its_path(said, message):
    assert refusal(recurring={"x": entry(**said)}).startswith(PLACE + message)


def test_what_is_missing_is_named():
    said = refusal(recurring={"x": {"task_path": "tests.tasks.noop"}})

    assert said == f'{PLACE}["recurring"]["x"]: "schedule" is missing'
    assert '"task_path" is missing' in refusal(recurring={"x": {"schedule": "@daily"}})


def test_the_shapes_around_them_are_checked():
    assert "must be a mapping" in refusal(recurring=[entry()])
    assert "must be a mapping" in refusal(recurring={"x": "@daily"})
    assert "must be under a name" in refusal(recurring={5: entry()})
    assert 'did you mean "polling_interval"?' in refusal(
        scheduler={"poling_interval": 1}
    )
    assert "True or False" in refusal(scheduler={"dynamic_tasks_enabled": "no"})


@pytest.mark.parametrize(
    ("said", "skips"),
    [("", False), ("0", False), ("off", False), ("1", True), (" YES ", True)],
)
def test_the_environment_can_leave_schedules_to_others(monkeypatch, said, skips):
    monkeypatch.setenv("WINDLASS_SKIP_RECURRING", said)

    assert skips_recurring() is skips


@pytest.mark.parametrize("path", ["tests.tasks.gone", "nowhere.x", "tests.tasks.sys"])
def test_a_task_that_is_none_is_a_warning_so_the_others_run(path):
    options = {"recurring": {"good": entry(), "bad": entry(task_path=path)}}

    with override_settings(
        TASKS={"default": {"BACKEND": BACKEND, "QUEUES": [], "OPTIONS": options}}
    ):
        (found,) = check_backend("default")

    assert found.id == "windlass.W006"
    assert found.msg.startswith(f'{PLACE}["recurring"]["bad"]["task_path"]: ')
