"""A job of several steps: its plan, its workspace, its hooks, and what follows what."""

from datetime import timedelta

import pytest
from django.core.checks import run_checks
from django.db import transaction
from django.utils import timezone

from tests import stepped
from tests.running import run_one, run_ready
from windlass import api
from windlass.exceptions import EnqueueError, StaleJob
from windlass.jobs import resolving
from windlass.models import Job, LiveJob, State
from windlass.signals import job_advanced
from windlass.tasks_api import task_enqueued, task_finished

pytestmark = pytest.mark.django_db

S = "tests.stepped"
CATS = [f"{S}.fetch", f"{S}.feed", f"{S}.store"]
HOOKS = {
    "creation_hook": f"{S}.on_creation",
    "pre_task_hook": f"{S}.before",
    "post_task_hook": f"{S}.after",
    "failure_hook": f"{S}.on_failure",
}


@pytest.fixture(autouse=True)
def jobs(settings):
    """Set ``JOBS``; nobody remembers the calls of other tests."""
    stepped.calls.clear()
    settings.JOBS = {"cats": CATS}
    yield lambda **named: setattr(settings, "JOBS", named)
    resolving.forget()


def finish(job):
    """Run a job to its end; give it back as it is then."""
    while run_ready():
        pass
    return Job.objects.get(pk=job.pk)


# Creation


def test_a_name_of_jobs_makes_a_job_at_its_first_step():
    job = Job.objects.create(name="cats", workspace={"owner": 7})

    assert (job.name, job.task_path, job.state) == ("cats", CATS[0], State.READY)
    assert (job.steps, job.step, job.workspace) == (CATS, 0, {"owner": 7})
    assert (job.queue_name, job.priority, job.args) == ("default", 0, [])
    assert Job.objects.filter(name="cats").get() == job


def test_every_option_reaches_the_job():
    later = timezone.now() + timedelta(hours=1)

    job = Job.objects.create(
        name="cats", queue_name="mail", priority=-5, run_after=later
    )

    assert (job.queue_name, job.priority, job.run_after) == ("mail", -5, later)
    assert (job.state, job.workspace) == (State.SCHEDULED, {})


def test_what_is_left_out_is_as_the_first_step_says(jobs):
    jobs(slow=["tests.stepped.stubborn", CATS[0]])

    job = Job.objects.create(name="slow")

    assert (job.max_attempts, job.timeout) == (3, 20)


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"name": "cat"}, "Did you mean 'cats'"),
        ({"name": None}, "JOBS has no None"),
        ({"name": "cats", "workspace": [1]}, "must be a dict"),
        ({"name": "cats", "workspace": {"x": object()}}, r"workspace\['x'\]"),
        ({"name": "cats", "priority": 500}, "priority"),
        ({"name": "cats", "queue_name": ""}, "queue_name"),
        ({"name": "cats", "run_after": "soon"}, "run_after"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_stored(said, complaint):
    with pytest.raises(EnqueueError, match=complaint):
        Job.objects.create(**said)

    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ([], r'JOBS\["x"\] must be a list of one or more'),
        (["nodots"], r'JOBS\["x"\]\[0\] must be the dotted path'),
        ({"tasks": CATS, "pre_hook": "a.b"}, 'unknown key "pre_hook".*pre_task_hook'),
        ({"tasks": CATS, "failure_hook": 3}, r'JOBS\["x"\]\["failure_hook"\]'),
        ([f"{S}.nothing"], "no such name"),
        (["no.such.module"], "cannot be imported"),
        ({"tasks": CATS, "pre_task_hook": f"{S}.nothing"}, "leads nowhere"),
    ],
)
def test_a_name_that_means_nothing_is_refused(jobs, said, complaint):
    jobs(x=said)

    with pytest.raises(EnqueueError, match=complaint):
        Job.objects.create(name="x")

    assert not Job.objects.exists()


def test_what_is_wrong_with_jobs_is_said_by_the_system_check(jobs):
    jobs(x=[f"{S}.nothing"], cats=CATS)
    (missing,) = [m for m in run_checks() if m.id == "windlass.W007"]
    jobs(x=[])
    (wrong,) = [m for m in run_checks() if m.id == "windlass.E008"]

    assert 'JOBS["x"], step 1' in missing.msg
    assert 'JOBS["x"]' in wrong.msg


def test_a_job_is_created_in_the_callers_transaction():
    with transaction.atomic():
        Job.objects.create(name="cats")
        transaction.set_rollback(True)

    assert not Job.objects.exists()


def test_a_job_is_stored_on_the_database_of_its_backend():
    with pytest.raises(EnqueueError, match="not stored on the database 'elsewhere'"):
        Job.objects.using("elsewhere").create(name="cats")

    assert Job.objects.using("default").create(name="cats").state == State.READY


def test_jobs_are_not_stored_in_bulk():
    with pytest.raises(TypeError, match="bulk"):
        Job.objects.bulk_create([Job(name="cats")])


# Steps


def test_the_steps_run_in_their_order_and_share_the_workspace():
    heard = []
    receivers = [lambda task_result, s=s, **_: heard.append(s) for s in "eaf"]
    signals = (task_enqueued, job_advanced, task_finished)
    for signal, receiver in zip(signals, receivers, strict=True):
        signal.connect(receiver, weak=False)
    try:
        job = Job.objects.create(name="cats", workspace={"owner": 7})
        result = run_one()
        between = Job.objects.get(pk=job.pk)
        done = finish(job)
    finally:
        for signal, receiver in zip(signals, receivers, strict=True):
            signal.disconnect(receiver)

    assert (result.state, between.state) == ("ready", State.READY)
    assert (between.step, between.task_path) == (1, CATS[1])
    assert between.workspace == {"owner": 7, "cats": ["Tom"]}
    assert (done.state, done.step, done.name) == (State.SUCCEEDED, 2, "cats")
    assert done.workspace == {
        "owner": 7,
        "cats": ["Tom", "Felix"],
        "times": 1,
        "stored": 2,
    }
    assert done.return_value is None
    assert stepped.calls == ["fetch", "feed", "store"]
    assert heard == ["e", "a", "a", "f"]
    assert [entry.get("done") for entry in done.history] == CATS[:2]
    assert len(done.worker_ids) == 1


def test_a_step_is_given_the_job_as_the_database_has_it(jobs, monkeypatch):
    seen = []

    def look(job):
        seen.append((job, Job.objects.get(pk=job.pk)))

    monkeypatch.setattr(stepped, "feed", look)
    Job.objects.create(name="cats", workspace={"n": 1}, priority=7)
    run_one()
    run_one()

    ((given, stored),) = seen
    for field in Job._meta.concrete_fields:
        if field.name != "started_at":
            value, expected = getattr(given, field.name), getattr(stored, field.name)
            assert (field.name, value) == (field.name, expected)
    assert abs(given.started_at - stored.started_at) < timedelta(minutes=1)
    assert (given._state.adding, given._state.db) == (False, "default")
    given.refresh_from_db()


def test_a_step_that_somebody_else_has_is_not_begun():
    job = Job.objects.create(name="cats")
    (claimed,) = api.claim_ready_jobs()
    LiveJob.objects.filter(pk=job.pk).update(claim=2)

    with pytest.raises(StaleJob):
        api.execute_claimed_job(claimed)

    assert stepped.calls == []


def test_a_path_may_be_a_step_twice(jobs):
    jobs(cats=[CATS[0], CATS[1], CATS[1], CATS[2]])

    done = finish(Job.objects.create(name="cats"))

    assert (done.state, done.workspace["times"], done.workspace["stored"]) == (
        State.SUCCEEDED,
        2,
        3,
    )


def test_a_failing_step_stops_the_job_and_its_workspace_is_kept(jobs):
    jobs(cats=[CATS[0], f"{S}.explode", CATS[2]])

    failed = finish(Job.objects.create(name="cats"))

    assert (failed.state, failed.reason, failed.step) == (State.FAILED, "error", 1)
    assert failed.workspace == {"cats": ["Tom"], "exploded": True}
    assert stepped.calls == ["fetch", "explode"]


def test_a_failed_job_goes_on_at_its_step_when_it_is_retried(jobs, monkeypatch):
    jobs(cats=[CATS[0], f"{S}.explode", CATS[2]])
    failed = finish(Job.objects.create(name="cats"))
    monkeypatch.setattr(stepped, "explode", stepped.feed)
    resolving.forget()

    api.retry_failed_job(failed.id)
    done = finish(failed)

    assert done.state == State.SUCCEEDED
    assert stepped.calls == ["fetch", "explode", "feed", "store"]


def test_each_step_has_the_budget_of_its_own_task(jobs):
    jobs(x=[f"{S}.stubborn", f"{S}.stubborn", CATS[0]])

    job = Job.objects.create(name="x")
    done = finish(job)

    assert (done.state, done.max_attempts, done.attempts) == (State.SUCCEEDED, 1, 1)
    assert done.workspace["attempts"] == [[1, 1], [2, 2], [3, 3]] * 2
    assert done.timeout is None
    assert len(done.errors) == 4


@pytest.mark.parametrize("path", ["together", "later"])
def test_tasks_of_every_kind_may_be_steps(jobs, path):
    jobs(x=[f"{S}.{path}", CATS[0]])

    done = finish(Job.objects.create(name="x"))

    assert (done.state, done.workspace[path]) == (State.SUCCEEDED, True)
    assert done.workspace["cats"] == ["Tom"]


def test_a_step_may_put_itself_off(jobs):
    jobs(x=[f"{S}.rest", CATS[0]])

    done = finish(Job.objects.create(name="x"))

    assert (done.state, done.workspace["rests"], done.attempts) == ("succeeded", 3, 1)


def test_a_step_may_cancel_its_job(jobs):
    jobs(x={"tasks": [f"{S}.stop", CATS[0]], **HOOKS})

    done = finish(Job.objects.create(name="x"))

    assert (done.state, done.workspace["asked"]) == (State.CANCELLED, True)
    assert stepped.calls == ["creation", "pre", "post"]


@pytest.mark.parametrize("path", ["spoil", "replace"])
def test_a_workspace_that_cannot_be_stored_fails_the_step(jobs, path):
    jobs(x=[CATS[0], f"{S}.{path}", CATS[1]])

    failed = finish(Job.objects.create(name="x"))

    assert (failed.state, failed.step) == (State.FAILED, 1)
    assert "workspace" in failed.errors[0].traceback
    assert failed.workspace == {"cats": ["Tom"]}


def test_a_job_in_flight_keeps_its_plan(jobs):
    job = Job.objects.create(name="cats")
    run_one()

    jobs(dogs=[CATS[0]])
    done = finish(job)

    assert (done.state, done.workspace["stored"]) == (State.SUCCEEDED, 2)


def test_a_step_whose_code_is_gone_is_refused(jobs, monkeypatch):
    job = Job.objects.create(name="cats")
    monkeypatch.delattr(stepped, "feed")

    failed = finish(job)

    assert (failed.state, failed.reason, failed.step) == (State.FAILED, "refused", 1)
    assert failed.workspace == {"cats": ["Tom"]}


def test_a_plan_that_someone_wrote_into_the_table_runs_nothing_else(jobs):
    job = Job.objects.create(name="cats")
    plan = {"tasks": ["os.getcwd"], "hooks": {}}
    LiveJob.objects.filter(pk=job.pk).update(task_path="os.getcwd", plan=plan)

    failed = finish(job)

    assert (failed.state, failed.reason) == (State.FAILED, "refused")


def test_a_step_has_the_limits_of_its_own_task(jobs):
    jobs(x=[CATS[0], f"{S}.charge", f"{S}.forget_key", f"{S}.charge"])

    job = Job.objects.create(name="x", workspace={"account": 9})
    before = job.concurrency_key
    run_one()
    between = Job.objects.get(pk=job.pk).concurrency_key
    failed = finish(job)

    assert (before, between) == (None, "account:9")
    # The step that leaves a workspace of which no key can be made is the one at fault.
    assert (failed.state, failed.step) == (State.FAILED, 2)
    assert "cannot be made" in failed.errors[0].traceback
    assert failed.workspace["charged"] is True


# Hooks


def test_hooks_are_called_in_their_order_around_each_step(jobs):
    jobs(cats={"tasks": [CATS[0], f"{S}.explode"], **HOOKS})

    failed = finish(Job.objects.create(name="cats"))

    assert stepped.calls == [
        *("creation", "pre", "fetch", "post"),
        *("pre", "explode", "failure", "post"),
    ]
    assert failed.workspace == {
        "made_for": "cats",
        "last": f"{S}.explode",
        "cats": ["Tom"],
        "exploded": True,
        "error": "boom",
        "after": 2,
    }


def test_a_failing_creation_hook_refuses_the_job(jobs):
    jobs(cats={"tasks": CATS, "creation_hook": f"{S}.refuse_creation"})

    with pytest.raises(
        EnqueueError, match="creation hook raised ValueError: not today"
    ):
        Job.objects.create(name="cats")

    assert not Job.objects.exists()


def test_a_failing_pre_task_hook_is_a_failure_of_the_step(jobs):
    jobs(cats={"tasks": CATS, **HOOKS, "pre_task_hook": f"{S}.broken_hook"})

    failed = finish(Job.objects.create(name="cats"))

    assert (failed.state, failed.step) == (State.FAILED, 0)
    assert stepped.calls == ["creation", "broken", "failure", "post"]
    assert failed.workspace["error"] == "a broken hook"


@pytest.mark.parametrize("hook", ["post_task_hook", "failure_hook"])
def test_other_hooks_that_fail_break_nothing(jobs, hook, caplog):
    tasks = [CATS[0], f"{S}.explode"]
    jobs(cats={"tasks": tasks, **HOOKS, hook: f"{S}.broken_hook"})

    failed = finish(Job.objects.create(name="cats"))

    assert (failed.state, failed.step) == (State.FAILED, 1)
    assert failed.errors[0].exception_class_path == "builtins.ValueError"
    assert f"its {hook} failed" in caplog.text


def test_hooks_of_coroutines_are_called_too(jobs):
    jobs(x={"tasks": [f"{S}.later"], **HOOKS})

    done = finish(Job.objects.create(name="x"))

    assert (done.state, done.workspace["after"]) == (State.SUCCEEDED, 1)
    assert stepped.calls == ["creation", "pre", "post"]


# Depths of queues


def test_queue_depths_count_what_waits():
    Job.objects.create(name="cats")
    Job.objects.create(name="cats", queue_name="mail")
    tomorrow = timezone.now() + timedelta(days=1)
    Job.objects.create(name="cats", queue_name="mail", run_after=tomorrow)
    Job.objects.create(name="cats", queue_name="busy")
    api.claim_ready_jobs(1, "busy")

    assert Job.get_queue_depths() == {"default": 1, "mail": 2}
    assert Job.get_queue_depths(exclude_future_jobs=True) == {"default": 1, "mail": 1}
