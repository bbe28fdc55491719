"""A job is created by the name of its function, if that may be run by its name."""

import threading
import uuid
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.db import connections
from django.utils import timezone

from tests.integration.runtime import once_in_all
from tests.running import run_one, run_ready
from windlass import api
from windlass.conf import options
from windlass.exceptions import ConfigurationError, EnqueueError
from windlass.jobs import resolving
from windlass.models import Job, LiveJob
from windlass.tasks_api import task_enqueued

pytestmark = pytest.mark.django_db

BACKEND = "windlass.backend.WindlassBackend"


@pytest.fixture
def allow(settings):
    """Set ``task_modules``."""

    def allow(patterns):
        own = {"BACKEND": BACKEND, "OPTIONS": {"task_modules": patterns}}
        settings.TASKS = {"default": own}

    return allow


def test_a_plain_function_of_an_installed_app_runs_by_its_name():
    job = api.create_task("tests.named.multiply", args=[2, 3])

    assert (job.name, job.task_path) == ("tests.named.multiply",) * 2
    assert (job.state, job.args, job.kwargs) == ("ready", [2, 3], {})
    assert (job.timeout, job.max_attempts) == (300, 1)
    assert (job.queue_name, job.priority) == ("default", 0)
    result = run_one()
    assert (result.state, result.return_value) == ("succeeded", 6)
    job.refresh_from_db()
    assert (job.state, job.return_value) == ("succeeded", 6)


@once_in_all
@pytest.mark.django_db(transaction=True)
def test_the_job_comes_back_as_it_was_stored_however_quick_a_worker_is():
    # Who hears of it in another thread is a worker that could not be quicker.
    def run(**_given):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    def work():
        run_ready()
        connections.close_all()

    task_enqueued.connect(run)
    try:
        job = api.create_task("tests.named.multiply", args=[2, 3])
    finally:
        task_enqueued.disconnect(run)

    assert job.state == "ready"


def test_every_option_reaches_the_job():
    later = timezone.now() + timedelta(hours=1)

    job = api.create_task(
        "tests.named.multiply",
        [2],
        {"b": 4},
        20,
        priority=7,
        run_after=later,
        max_attempts=3,
    )

    assert (job.state, job.kwargs, job.timeout) == ("scheduled", {"b": 4}, 20)
    assert (job.priority, job.max_attempts, job.run_after) == (7, 3, later)
    api.run_now(job.id)
    assert run_one().return_value == 8


@pytest.mark.parametrize("timeout", [None, 0])
def test_no_timeout_means_five_minutes(timeout):
    assert api.create_task("tests.named.multiply", [1], timeout=timeout).timeout == 300


def test_what_is_left_at_its_default_is_as_the_decorator_says():
    own = api.create_task("tests.named.decorated", [1])
    said = api.create_task(
        "tests.named.decorated", [1], timeout=5, max_attempts=2, priority=1
    )
    bare = api.create_task("tests.named.plainly_decorated", [1])

    assert (own.priority, own.max_attempts, own.timeout) == (3, 4, 12)
    assert (said.priority, said.max_attempts, said.timeout) == (1, 2, 5)
    assert (bare.priority, bare.max_attempts, bare.timeout) == (0, 1, 300)
    assert {result.return_value for result in run_ready()} == {-1, 1}


def test_a_coroutine_function_runs_too():
    api.create_task("tests.named.swim", [1])

    assert run_one().return_value == 2


def test_limits_of_a_plain_function_hold():
    job = api.create_task("tests.named.limited", [1])

    assert job.concurrency_key == "named:1"
    assert run_one().state == "succeeded"


def test_an_error_keeps_its_class_and_traceback_and_a_copy_is_the_same_call():
    job = api.create_task("tests.named.fail", ["badly"])
    result = run_one()

    (error,) = result.errors
    assert error.exception_class is ValueError
    assert "badly" in error.traceback
    assert "in fail" in error.traceback
    copy = api.enqueue_copy(job.id)
    assert Job.objects.get(pk=copy.id).name == "tests.named.fail"
    assert run_one().errors[0].exception_class is ValueError


def test_a_result_knows_the_function():
    from tests import named
    from windlass.tasks_api import default_task_backend

    job = api.create_task("tests.named.multiply", [1])

    result = default_task_backend.get_result(str(job.id))
    assert result.task.func is named.multiply
    assert result.task.module_path == "tests.named.multiply"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("multiply", "not the dotted path of a function"),
        ("", "not the dotted path"),
        (None, "not the dotted path"),
        ("tests.named.", "not the dotted path"),
        ("tests.named.multipli", "no such name. Did you mean 'multiply'"),
        ("tests.nowhere.at_all", "cannot be imported: No module named"),
        ("tests.named.value", "is no function"),
        ("tests.named.ImportedClass", "is no function"),
        ("tests.named.imported", "the function is textwrap.dedent"),
        ("os.system", "is no function"),
        ("subprocess.run", "is not run"),
        ("antigravity.webbrowser", "was not imported"),
        ("builtins.eval", "is no function"),
        ("tests.named.multiply.__call__", "cannot be imported"),
    ],
)
def test_a_name_that_may_not_be_run_is_refused_with_nothing_stored(name, said):
    with pytest.raises(EnqueueError, match="|".join([said])) as refused:
        api.create_task(name, [1])

    assert said in str(refused.value)
    assert not LiveJob.objects.exists()


def test_a_module_that_is_not_allowed_is_not_even_imported():
    import sys

    sys.modules.pop("this", None)

    with pytest.raises(EnqueueError, match="was not imported"):
        api.create_task("this.anything")

    assert "this" not in sys.modules


@pytest.mark.parametrize(
    ("options_", "error"),
    [
        ({"args": "abc"}, "must be a list"),
        ({"args": [object()]}, "args\\[0\\]"),
        ({"kwargs": [1]}, "must be a list and a dict"),
        ({"timeout": -1}, "timeout"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"queue_name": ""}, "queue_name"),
        ({"run_after": "soon"}, "run_after"),
        ({"priority": 1000}, "priority"),
    ],
)
def test_options_that_make_no_sense_are_refused(options_, error):
    with pytest.raises(EnqueueError, match=error):
        api.create_task("tests.named.multiply", **options_)

    assert not LiveJob.objects.exists()


def test_patterns_narrow_and_widen_what_is_allowed(allow):
    allow(["textwrap", "shop.*"])

    assert api.create_task("textwrap.dedent", ["  a"]).name == "textwrap.dedent"
    with pytest.raises(EnqueueError, match="task_modules"):
        api.create_task("tests.named.multiply", [1])
    assert run_one().return_value == "a"


def test_a_function_that_is_allowed_no_more_is_refused_when_it_is_to_run(allow):
    allow(["textwrap"])
    job = api.create_task("textwrap.dedent", ["  a"])
    allow(None)
    # As a new process would.
    resolving.forget()

    result = run_one()

    assert (result.state, result.reason) == ("failed", "refused")
    assert "task_modules" in result.errors[0].traceback
    assert Job.objects.get(pk=job.id).errors


def test_a_task_that_lost_its_decorator_does_not_become_callable_by_that():
    job = api.create_task("tests.named.multiply", [1])
    LiveJob.objects.update(policy=None)

    run_one()

    assert Job.objects.get(pk=job.pk).reason == "refused"


@pytest.mark.parametrize("patterns", ["shop.*", [1], ["shop tasks"], {"a": 1}])
def test_patterns_that_are_none_are_refused_with_their_path(allow, patterns):
    allow(patterns)

    with pytest.raises(ConfigurationError, match="task_modules"):
        options("default")


@pytest.mark.parametrize("kind", ["Immediate", "Dummy"])
def test_a_backend_that_stores_nothing_is_refused(settings, kind):
    settings.TASKS = {
        "default": {"BACKEND": f"windlass.testing.backends.{kind}Backend"}
    }

    with pytest.raises(EnqueueError, match="needs a backend of Windlass"):
        api.create_task("tests.named.multiply", [1])


def test_the_async_twin_does_the_same():
    job = async_to_sync(api.acreate_task)("tests.named.multiply", [2, 5])

    assert isinstance(job.id, uuid.UUID)
    assert run_one().return_value == 10
