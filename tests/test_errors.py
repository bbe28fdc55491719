"""Errors and lost code: what a result keeps of them, and that it stays readable."""

import pytest

from tests import tasks
from tests.running import fresh, run_one
from windlass.jobs import resolving
from windlass.models import EndedJob, LiveJob
from windlass.tasks_api import TaskResultStatus, default_task_backend

pytestmark = pytest.mark.django_db
backend = default_task_backend


@pytest.fixture
def forgotten():
    """Tasks that were resolved before are looked up afresh, as by a new process."""
    resolving.forget()
    yield
    resolving.forget()


# Errors of every shape


def test_the_chain_of_causes_is_kept():
    result = tasks.chained.enqueue()
    run_one()

    (error,) = backend.get_result(result.id).errors

    assert error.exception_class_path == "builtins.RuntimeError"
    for text in ("'the first'", "ValueError: the second", "RuntimeError: the third"):
        assert text in error.traceback
    assert "direct cause" in error.traceback
    assert "During handling" in error.traceback


@pytest.mark.parametrize("how", tasks.BROKEN)
def test_an_exception_of_any_kind_is_stored(how):
    result = tasks.raise_broken.enqueue(how)
    run_one()

    found = backend.get_result(result.id)

    assert (found.status, found.reason) == (TaskResultStatus.FAILED, "error")
    name = {"group": "ExceptionGroup"}.get(how, how.capitalize())
    assert found.errors[0].exception_class_path.endswith(f".{name}")
    assert name in found.errors[0].traceback


def test_what_postgresql_cannot_store_is_shown_in_another_way():
    tasks.raise_broken.enqueue("unstorable")
    run_one()

    (error,) = EndedJob.objects.get().history

    assert "NUL ␀ and half a pair \\ud800" in error["traceback"]


def test_an_exception_class_that_is_gone_is_still_readable(monkeypatch):
    result = tasks.raise_broken.enqueue("unpicklable")
    run_one()
    monkeypatch.delattr(tasks, "Unpicklable")

    (error,) = backend.get_result(result.id).errors

    assert "cannot be made again" in error.traceback
    with pytest.raises(ImportError):
        error.exception_class  # noqa: B018


# Code that is gone


def test_the_result_of_removed_code_stays_readable(monkeypatch, forgotten):
    result = tasks.add.using(priority=3, queue_name="mail").enqueue(1, 2)
    run_one()
    monkeypatch.delattr(tasks, "add")

    found = backend.get_result(result.id)

    assert (found.return_value, found.args) == (3, [1, 2])
    assert found.task.module_path == "tests.tasks.add"
    assert (found.task.priority, found.task.queue_name) == (3, "mail")


def test_the_result_of_a_removed_module_stays_readable(forgotten):
    result = tasks.add.enqueue(1, 2)
    LiveJob.objects.update(task_path="gone.module.task")

    assert backend.get_result(result.id).task.module_path == "gone.module.task"
    assert str(fresh(result)).startswith("gone.module.task")
