"""Fixtures that several folders of tests share."""

import pytest
from django.db import connections
from django.test.utils import setup_databases, teardown_databases

from tests.integration.project.journal import VARIABLE, Journal
from tests.integration.runtime import Runtime, environment
from tests.integration.states import ledgers
from windlass.models import (
    CancelRequest,
    EndedJob,
    Event,
    LiveJob,
    Memo,
    Node,
    Schedule,
    ScheduleMark,
    Slot,
    Waiter,
)
from windlass.runtime import ledger
from windlass.workflows.models import (
    WorkflowEdge,
    WorkflowMember,
    WorkflowRun,
    WorkflowSpace,
)


@pytest.fixture(scope="session")
def django_db_setup(django_test_environment, django_db_blocker):
    """Make the test database for whoever asks; pytest-django's looks at marks only."""
    with django_db_blocker.unblock():
        made = setup_databases(verbosity=0, interactive=False)
        yield
        teardown_databases(made, verbosity=0)


@pytest.fixture
def committed(django_db_setup, django_db_blocker):
    """A database whose rows other processes see; quicker than flushing all tables."""
    with django_db_blocker.unblock():
        _remove_everything()
        yield connections["default"]
        _remove_everything()
        connections["default"].close()


def _remove_everything():
    jobs = (LiveJob, EndedJob, CancelRequest, Slot, Waiter, Memo, Event)
    flows = (WorkflowRun, WorkflowMember, WorkflowEdge, WorkflowSpace)
    for model in (*jobs, *flows, Node, Schedule, ScheduleMark):
        model.objects.all()._raw_delete("default")


@pytest.fixture
def journal(tmp_path, monkeypatch):
    """What the tasks of this test wrote down."""
    path = tmp_path / "journal"
    monkeypatch.setenv(VARIABLE, str(path))
    return Journal(path)


@pytest.fixture
def start(committed, journal, tmp_path):
    """Start runtimes; they end with the test, and a failing test shows their output."""
    started = []

    def start(*arguments, options=None, command="windlass", **env):
        runtime = Runtime(
            tmp_path / f"runtime-{len(started) + 1}.log",
            *arguments,
            command=command,
            env=environment(journal.path, options=options, **env),
        )
        started.append(runtime)
        return runtime

    yield start
    for runtime in started:
        runtime.kill()
    for path in ledgers():
        ledger.forget(path)
    for runtime in started:
        print(f"--- {runtime.output.name} (process {runtime.pid})")  # noqa: T201
        print(runtime.said()[-20_000:])  # noqa: T201
