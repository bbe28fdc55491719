"""WINDLASS_PROCESSES, the checks, and what the reference says of them."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from django.core.management import call_command
from django.test import override_settings

from tests.processes.models import Report
from windlass.exceptions import ConfigurationError
from windlass.processes import checks, conf
from windlass.processes.log_models import BaseProcessLog
from windlass.processes.models import BaseProcess

PAGE = Path(__file__).parents[2] / "docs/reference/processes.md"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "WINDLASS_PROCESSES must be a mapping"),
        ({"EXECUTER": 1}, r'WINDLASS_PROCESSES\["EXECUTER"\]: unknown.*"EXECUTOR"'),
        ({"colour": 1}, "the names it knows are"),
        ({"EXECUTOR": "thread"}, r'\["EXECUTOR"\] must be one of "fork", "spawn"'),
        ({"SANDBOX_RUNTIME": ""}, r'\["SANDBOX_RUNTIME"\] must be the name or path'),
        ({"SANDBOX_NETWORK": "some"}, r'\["SANDBOX_NETWORK"\] must be one of "none"'),
        ({"SANDBOX_STATE_ROOT": "x"}, r'\["SANDBOX_STATE_ROOT"\] must be the absol'),
        ({"SANDBOX_ARGUMENTS": "-x"}, r'\["SANDBOX_ARGUMENTS"\] must be a list'),
        ({"SANDBOX_ARGUMENTS": ["x"]}, r'\["SANDBOX_ARGUMENTS"\]\[0\] must be an opt'),
        ({"SANDBOX_MOUNTS": ["/a", "b"]}, r'\["SANDBOX_MOUNTS"\]\[1\] must be an abs'),
        ({"SANDBOX_MOUNTS": ["/a:x"]}, r'\["SANDBOX_MOUNTS"\]\[0\] must be an absol'),
        ({"SANDBOX_MOUNTS": ["/"]}, r'\["SANDBOX_MOUNTS"\]\[0\] must be an absolute'),
        ({"SANDBOX_ENVIRONMENT": ["a=b"]}, r'\["SANDBOX_ENVIRONMENT"\]\[0\] must be'),
        ({"QUEUE": ""}, r'\["QUEUE"\] must be the name of a queue'),
        ({"KILL_TERM_RETRIES": 0}, r'\["KILL_TERM_RETRIES"\] must be a whole'),
        ({"KILL_TERM_WAIT_SECONDS": "2"}, r'\["KILL_TERM_WAIT_SECONDS"\] must be'),
        ({"MEMORY_LIMIT": "much"}, r'\["MEMORY_LIMIT"\] must be bytes'),
        ({"CPU_LIMIT": 0}, r'\["CPU_LIMIT"\] must be a number of seconds'),
        ({"OPEN_FILES_LIMIT": 0}, r'\["OPEN_FILES_LIMIT"\] must be a whole'),
        ({"NICE": 20}, r'\["NICE"\] must be a whole number from 0 to 19'),
        ({"LOG_LIMIT": 0}, r'\["LOG_LIMIT"\] must be a whole number of at least 1'),
        ({"CAPTURE_OUTPUT": 1}, r'\["CAPTURE_OUTPUT"\] must be True or False'),
        ({"TASKS_ALIAS": "none"}, r'\["TASKS_ALIAS"\] must be a Windlass backend'),
        ({"BACKEND": "native"}, r'\["BACKEND"\] must be the dotted path'),
    ],
)
def test_a_mistake_is_named_by_its_path(given, said):
    with pytest.raises(ConfigurationError, match=said):
        conf.parse(given)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("tests.processes.nothing.Backend", "cannot be imported"),
        ("tests.processes.models.Report", r"has no method dispatch\(\)"),
    ],
)
def test_a_backend_that_is_none_is_refused(settings, path, said):
    settings.WINDLASS_PROCESSES = {"BACKEND": path}

    with pytest.raises(ConfigurationError, match=said):
        conf.backend()


def found(**settings):
    with override_settings(**settings):
        return [message.id for message in checks.check_processes()]


def test_the_checks_find_what_cannot_work():
    own = "windlass.processes."
    entry = {"BACKEND": "windlass.backend.WindlassBackend", "QUEUES": ["default"]}

    assert found() == [f"{own}W001"]
    assert found(WINDLASS_PROCESSES={"x": 1}) == [f"{own}E001"]
    assert f"{own}E003" in found(TASKS={"default": entry})
    assert f"{own}E002" in found(TASKS={"other": {**entry, "QUEUES": []}})


def described(heading):
    part = PAGE.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("| `")]
    return {name: line for line in lines for name in first(line)}


def first(line):
    return re.findall(r"`(\w+)", line.split("|")[1])


def test_every_setting_is_described_with_its_default():
    rows = described("WINDLASS_PROCESSES")

    assert rows.keys() == conf.PARSERS.keys()
    for field in fields(conf.ProcessOptions):
        shown = repr(field.default).replace("'", '"')
        assert f"| `{shown}` |" in rows[field.name.upper()]


@pytest.mark.parametrize("model", [BaseProcess, BaseProcessLog])
def test_every_name_of_the_models_is_described(model):
    page = PAGE.read_text().partition(f"## {model.__name__}\n")[2].partition("\n## ")[0]
    named = {name for name in re.findall(r"`(\w+)", page) if not name.startswith("_")}
    own = {field.name for field in model._meta.get_fields()}
    own |= {
        name
        for name, value in vars(model).items()
        if callable(value) and not name.startswith(("_", "get_"))
    }
    said_by_django = {
        "save",
        "from_db",
        "refresh_from_db",
        "Meta",
        "Status",
        "DoesNotExist",
    }

    assert own - named - said_by_django == set()


@pytest.mark.django_db
def test_no_migration_is_missing():
    call_command("makemigrations", "windlass_processes", "--check", "--dry-run")


def test_numbers_are_unique_whatever_the_meta_of_a_log_says():
    for model in (Report.logs.rel.related_model,):
        (constraint,) = model._meta.constraints
        assert set(constraint.fields) == {"process", "sequence"}
