"""Running a job: whatever the task does, the job ends, and only the job."""

import json
import logging
from dataclasses import replace

import pytest

from tests import tasks
from tests.contract.rows import DEFAULT, NODE
from tests.running import fresh, run_one, run_ready
from windlass import api, db
from windlass.exceptions import StaleJob
from windlass.jobs import execution, lifecycle, resolving
from windlass.models import LiveJob
from windlass.tasks_api import TaskResultStatus, task_finished

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def forgotten():
    """Each test resolves its tasks afresh, as a new process would."""
    resolving.forget()
    yield
    resolving.forget()


# Tasks of every kind


def test_functions_and_coroutines_run():
    tasks.add.enqueue(1, b=2)
    tasks.add_later.enqueue(3, b=4)
    tasks.boom_later.enqueue()

    first, second, third = run_ready()

    assert (first.return_value, second.return_value) == (3, 7)
    assert third.errors[0].traceback.rstrip().endswith("ValueError: boom, later")


def test_the_context_tells_the_task_about_itself():
    result = tasks.look.using(metadata={"a": 1}).enqueue("x")

    assert run_one().return_value == {
        "id": result.id,
        "attempt": 1,
        "status": TaskResultStatus.RUNNING,
        "args": ("x",),
        "metadata": {"a": 1},
    }


def test_a_coroutine_gets_its_context_too():
    tasks.look_later.enqueue()

    assert run_one().return_value == 1


def test_a_task_can_keep_metadata_and_say_how_far_it_is():
    result = tasks.remember.using(metadata={"first": 1}).enqueue(second=(2,))
    run_one()

    job = fresh(result)
    result.refresh()

    assert job.metadata == result.metadata == {"first": 1, "second": [2]}
    said = dict(job.progress)
    assert said.pop("at")
    assert said == {"current": 3, "total": 10, "message": "three of ten"}
    assert result.progress == job.progress


def test_a_coroutine_can_keep_metadata():
    result = tasks.remember_later.enqueue(a=1)
    run_one()

    assert fresh(result).metadata == {"a": 1}


def test_metadata_that_json_cannot_hold_fails_the_job_with_its_name():
    tasks.remember_nan.enqueue()

    (error,) = run_one().errors

    assert error.exception_class is TypeError
    assert "metadata['share'] is of type float" in error.traceback


def test_an_attempt_that_lost_its_job_cannot_write_about_it():
    result = tasks.remember.enqueue(a=1)
    (claimed,) = api.claim_ready_jobs()
    LiveJob.objects.update(claim=99)

    with pytest.raises(StaleJob):
        api.execute_claimed_job(claimed)

    assert fresh(result).metadata is None
    assert fresh(result).progress is None


# Tasks that try to leave


@pytest.mark.parametrize("task", [tasks.leave, tasks.leave_later])
@pytest.mark.parametrize("how", tasks.EXITS)
def test_an_exit_fails_its_own_job_only(task, how):
    leaving, after = task.enqueue(how), tasks.add.enqueue(1, 2)

    run_ready()

    job = fresh(leaving)
    assert (job.state, job.reason) == ("failed", "error")
    if (task, how) == (tasks.leave_later, "StopIteration"):
        how = "RuntimeError"  # Python makes that of it in a coroutine.
    assert job.errors[0].exception_class_path == f"builtins.{how}"
    assert fresh(after).state == "succeeded"


def test_sys_exit_fails_its_own_job_only():
    result = tasks.exit_now.enqueue()
    run_one()

    (error,) = fresh(result).errors
    assert error.exception_class is SystemExit
    assert error.traceback.rstrip().endswith("SystemExit: 3")


# What a task gives back


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("object", "the return value is of type object"),
        ("nan", "the return value is of type float"),
        ("infinity", "the return value['deep'][1] is of type float"),
        ("nul", "the return value is of type str: a NUL character"),
        ("surrogate", "the return value is of type str"),
        ("set", "the return value is of type set"),
        ("generator", "the return value is of type generator"),
        ("deep", "the return value is of type list: it is nested more than 500"),
    ],
)
def test_a_value_that_json_cannot_hold_fails_the_job_and_says_why(name, said):
    result = tasks.give.enqueue(name)

    (error,) = run_one().errors

    assert error.exception_class is TypeError
    assert "The task ran, but" in error.traceback
    assert said in error.traceback
    assert fresh(result).state == "failed"


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("none", None),
        ("bytes", "text"),
        ("tuple", [1, [2, 3]]),
        ("int keys", {"1": "one"}),
    ],
)
def test_a_value_is_stored_as_json_makes_it(name, stored):
    result = tasks.give.enqueue(name)
    run_one()

    result.refresh()

    assert result.return_value == stored
    assert json.dumps(fresh(result).return_value) == json.dumps(stored)


# Tasks that are none


@pytest.mark.parametrize(
    "path",
    [
        "tests.tasks.vanished",
        "tests.no_such_module.task",
        "tests.tasks.not_a_task",
        "tests.tasks.GIFTS",
        "tests.tasks",
        "os.abort",
        "nodots",
        "tests.broken_module.task",
        "tests.leaving_module.task",
    ],
)
def test_a_path_that_is_no_task_is_refused_and_never_run(path, tmp_path, monkeypatch):
    import tests

    (tmp_path / "broken_module.py").write_text("1 / 0")
    (tmp_path / "leaving_module.py").write_text("import sys; sys.exit(1)")
    monkeypatch.setattr(tests, "__path__", [*tests.__path__, str(tmp_path)])
    refused = tasks.add.using(priority=1).enqueue(1, 2)
    LiveJob.objects.update(task_path=path)
    after = tasks.add.enqueue(1, 2)

    run_ready()

    job = fresh(refused)
    assert (job.state, job.reason) == ("failed", "refused")
    assert job.errors[0].exception_class_path == "windlass.exceptions.RefusedTask"
    assert path in job.errors[0].traceback
    assert fresh(after).state == "succeeded"


def test_a_refused_job_is_not_tried_again():
    result = tasks.stubborn.enqueue()
    LiveJob.objects.update(task_path="tests.tasks.not_a_task")

    run_one()

    assert (fresh(result).state, fresh(result).attempts) == ("failed", 1)


def test_wrong_arguments_fail_the_job_like_any_error():
    result = tasks.add.enqueue(1, 2, 3)
    run_one()

    assert fresh(result).errors[0].exception_class is TypeError
    assert fresh(result).reason == "error"


def test_code_that_came_back_runs_the_job_again(monkeypatch):
    result = tasks.add.enqueue(1, 2)
    with monkeypatch.context() as gone:
        gone.delattr(tasks, "add")
        run_one()
    assert fresh(result).reason == "refused"

    api.retry_failed_job(result.id)
    run_one()

    result.refresh()
    assert result.return_value == 3


# Who may report


def test_a_late_report_is_refused_and_writes_nothing(caplog):
    result = tasks.add.enqueue(1, 2)
    (claimed,) = api.claim_ready_jobs()
    LiveJob.objects.update(node=None, started_at=None)
    (second,) = api.claim_ready_jobs()

    with pytest.raises(StaleJob, match="no longer holds it"):
        api.execute_claimed_job(claimed)

    assert fresh(result).state == "running"
    assert api.execute_claimed_job(second).return_value == 3
    assert fresh(result).attempts == 2


def test_the_engine_logs_nothing_for_a_task_that_just_fails(caplog):
    tasks.boom.enqueue()
    with caplog.at_level(logging.DEBUG, "windlass"):
        run_one()

    assert [r for r in caplog.records if r.name.startswith("windlass")] == []


# Results are for somebody


def run_unseen():
    (job,) = lifecycle.claim(db.dialect("default"), NODE, "default", [DEFAULT], 1)
    executor = execution.Executor(
        node=NODE, database="default", backend=type(tasks.add.get_backend())
    )
    return execution.run(job, replace(executor, shows_results=False))


def test_a_job_that_nobody_looks_at_makes_no_result(monkeypatch):
    monkeypatch.setattr(execution, "heard", lambda *signals: False)
    tasks.add.enqueue(1, 2)

    outcome = run_unseen()

    assert outcome.result is None
    assert outcome.move.return_value == "3"


def test_a_receiver_gets_a_whole_result(monkeypatch):
    monkeypatch.setattr(execution, "heard", lambda *signals: task_finished in signals)
    tasks.add.enqueue(1, 2)

    outcome = run_unseen()

    assert (outcome.result.return_value, outcome.result.args) == (3, [1, 2])


def test_a_failure_nobody_looked_at_before_has_its_result(monkeypatch):
    monkeypatch.setattr(execution, "heard", lambda *signals: False)
    tasks.boom.enqueue()

    outcome = run_unseen()

    assert outcome.result.errors[0].exception_class_path == "builtins.ValueError"
    assert outcome.move.state == "failed"
