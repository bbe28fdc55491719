"""Durable steps: once for a job, however often its attempts are repeated."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests import durable_tasks as shop
from tests import tasks
from tests.durable_tasks import charge, code, happened, nothing, ship
from tests.running import fresh, run_one, run_ready
from windlass import api, db, task
from windlass.db import memos
from windlass.exceptions import RefusedTask, StaleJob, StepError
from windlass.jobs import lifecycle
from windlass.models import EndedJob, Event, Job, LiveJob, Memo, Queue
from windlass.signals import job_snoozed

pytestmark = pytest.mark.django_db
RECEIPT = {"order": 7, "amount": 2, "parts": [1, 2]}


@pytest.fixture(autouse=True)
def afresh():
    happened.clear()
    code.clear()


def run_all():
    """Run what is ready until nothing is."""
    results = []
    while found := run_ready():
        results += found
    return results


# Once


def test_a_step_that_was_recorded_never_runs_again():
    code["ship fails"] = True
    result = shop.order.enqueue(7)
    run_one()
    run_one()
    code.clear()

    assert run_one().return_value == [RECEIPT, "parcel 7", None]
    assert happened == ["charge 7", "ship 7", "ship 7", "ship 7", "nothing"]
    assert fresh(result).attempts == 3


def test_the_first_attempt_sees_what_every_other_will():
    shop.order.enqueue(7)

    (receipt, parcel, none) = run_one().return_value

    # A tuple is a list from the beginning.
    assert (receipt, parcel, none) == (RECEIPT, "parcel 7", None)


def test_a_coroutine_has_durable_steps_side_by_side():
    code["ship fails"] = True
    shop.order_later.enqueue(7)
    run_one()
    code.clear()

    value = run_one().return_value

    assert value == [{**RECEIPT, "amount": 1}, "parcel 7", None]
    assert sorted(happened) == ["charge 7", "nothing", "ship 7", "ship 7"]


def test_a_snooze_and_a_lost_worker_keep_what_was_recorded():
    code["snoozes"] = True
    result = shop.snooze_first.enqueue()
    run_one()
    code.clear()
    # Claimed, and the worker is gone.
    api.claim_ready_jobs()
    LiveJob.objects.update(node=None, started_at=None)

    assert run_one().return_value == "done"
    assert happened == ["charge 1"]
    assert Memo.objects.filter(job=result.id).count() == 1


def test_a_retry_by_hand_goes_on_where_the_job_stopped_and_a_copy_starts_afresh():
    code["ship fails"] = True
    result = shop.order.enqueue(7)
    run_all()
    assert fresh(result).state == "failed"
    code.clear()
    happened.clear()

    api.retry_failed_job(result.id)
    run_one()
    assert happened == ["ship 7", "nothing"]

    api.enqueue_copy(result.id)
    run_one()
    assert happened[2:] == ["charge 7", "ship 7", "nothing"]


def test_a_name_in_a_loop_means_the_next_of_that_name():
    code["ship fails"] = True
    shop.loop.enqueue([1, 2, 3])
    run_one()
    code.clear()
    run_one()

    assert happened == ["charge 1", "charge 2", "charge 3", "ship all", "ship all"]


def test_a_step_that_is_tried_again_within_an_attempt_is_the_same_step():
    code["charge fails"] = True
    shop.insist_within.enqueue()
    assert run_one().status == "SUCCESSFUL"
    assert happened == ["charge 1", "charge 1", "ship 1"]

    memos = Memo.objects.order_by("recorded_at").values_list("name", "ordinal")
    assert list(memos) == [("charge", 0), ("ship", 0)]


def test_one_query_reads_what_is_remembered_and_one_statement_records():
    code["ship fails"] = True
    shop.order.enqueue(7)
    with CaptureQueriesContext(connection) as first:
        run_one()
    with CaptureQueriesContext(connection) as second:
        run_one()

    def said(captured):
        found = [query["sql"] for query in captured.captured_queries]
        return [sql.split()[0] for sql in found if "windlass_memo" in sql]

    assert said(first) == ["SELECT", "INSERT"]
    assert said(second) == ["SELECT"]


def test_a_task_without_durable_steps_asks_nothing():
    tasks.look.enqueue("x")
    with CaptureQueriesContext(connection) as captured:
        run_one()

    assert not [q for q in captured.captured_queries if "memo" in q["sql"]]


# Together with what a step writes


@pytest.mark.parametrize("noting", [shop.note, shop.note_later])
def test_what_an_atomic_step_writes_is_committed_with_its_record(noting):
    code["note fails"] = True
    noting.enqueue()
    run_one()
    assert (Queue.objects.count(), Memo.objects.count()) == (0, 0)
    code.clear()

    run_one()

    assert (Queue.objects.count(), Memo.objects.count()) == (1, 1)
    assert happened == ["noted", "noted"]


def lose():
    """Let somebody else take the job over."""
    LiveJob.objects.update(claim=99)


def test_a_ghost_records_nothing():
    code["before the record"] = lose
    result = shop.note_plainly.enqueue()
    (claimed,) = api.claim_ready_jobs()

    with pytest.raises(StaleJob):
        api.execute_claimed_job(claimed)

    assert not Memo.objects.exists()
    assert fresh(result).state == "running"


def test_what_a_ghost_wrote_in_an_atomic_step_is_rolled_back():
    code["before the record"] = lose
    result = shop.note.enqueue()
    run_one()

    assert (Queue.objects.count(), Memo.objects.count()) == (0, 0)
    # The test's own change was rolled back as well, so the job is this attempt's again.
    assert fresh(result).errors[0].exception_class is StaleJob


# Misuse


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("no name", "must be a text of 1 to 255 characters, not ''"),
        ("long name", "must be a text of 1 to 255 characters"),
        ("coroutine", "await context.astep"),
        ("no json", "the result of the durable step 'set' is of type set"),
        ("naive", "takes an aware datetime"),
    ],
)
def test_misuse_fails_the_job_and_says_what_to_do(how, said):
    result = shop.misuse.enqueue(how)
    run_one()

    (error,) = fresh(result).errors
    assert said in error.traceback
    assert not Memo.objects.exists()


@pytest.mark.parametrize("how", ["in a transaction", "atomic"])
def test_a_step_inside_a_transaction_is_refused(how):
    one = shop.misuse_atomic.enqueue() if how == "atomic" else shop.misuse.enqueue(how)
    run_one()

    job = fresh(one)
    assert (job.state, happened) == ("failed", [])
    assert "use context.atomic_step()" in job.errors[0].traceback
    assert job.errors[0].exception_class is StepError


@pytest.mark.parametrize("version", ["x" * 65, 1.5, None, True])
def test_a_version_that_is_none_is_refused_at_the_door(version):
    with pytest.raises(RefusedTask, match="version must be a number, or a text"):
        task(version=version)(charge)


# Code that changed under a job


def steps(*names):
    functions = {"charge": charge, "ship": ship, "new": ship, "newer": ship}
    code["steps"] = [(name, functions[name]) for name in names]


def deployed(first, then):
    """Fail after some steps, and give back the job after it ran with others."""
    steps(*first)
    code["fails"] = True
    result = shop.as_coded.enqueue()
    run_one()
    happened.clear()
    del code["fails"]
    steps(*then)
    run_one()
    return fresh(result)


def test_steps_that_change_places_fail_the_job_at_once_and_loudly():
    job = deployed(["charge", "ship"], ["ship", "charge"])

    assert (job.state, job.attempts, happened) == ("failed", 2, [])
    said = job.errors[1].traceback
    assert "'charge' comes later in the code of tests.durable_tasks.as_coded" in said
    assert "retry_failed_job" in said
    assert "enqueue_copy" in said
    assert job.errors[1].exception_class_path == "windlass.exceptions.StepMismatch"


@pytest.mark.parametrize(
    "then",
    [
        ["charge", "ship", "new"],
        ["charge", "new", "ship"],
        ["new", "newer", "charge", "ship"],
        ["new", "charge", "newer", "ship"],
        ["ship", "new", "newer"],
        ["charge"],
    ],
)
def test_new_steps_run_and_steps_that_are_gone_are_nobodys_concern(then):
    job = deployed(["charge", "ship"], then)
    assert job.state == "succeeded"
    assert len(happened) == len({"new", "newer"} & set(then))

    # And once more, with all of them on record.
    result = shop.as_coded.enqueue()
    Memo.objects.filter(job=job.pk).update(job=result.id)
    happened.clear()
    run_one()
    assert (fresh(result).state, happened) == ("succeeded", [])


def test_a_fallback_that_is_no_longer_needed_is_no_mismatch():
    code.update({"charge fails": True, "fails": True})
    result = shop.fallback.enqueue()
    run_one()
    del code["charge fails"]
    run_one()
    del code["fails"]
    run_one()

    assert fresh(result).state == "succeeded"
    assert happened == ["charge 1", "ship 1", "nothing", "charge 1"]


def test_another_function_under_a_name_fails_the_job_at_once():
    steps("charge", "ship")
    code["fails"] = True
    result = shop.as_coded.enqueue()
    run_one()
    code["steps"] = [("charge", ship)]
    run_one()

    job = fresh(result)
    assert (job.state, job.attempts) == ("failed", 2)
    said = job.errors[1].traceback
    assert "recorded by tests.durable_tasks.charge" in said
    assert "calls tests.durable_tasks.ship" in said

    # With the former code it goes on.
    del code["fails"]
    steps("charge", "ship")
    api.retry_failed_job(result.id)
    run_one()
    assert fresh(result).state == "succeeded"


def test_another_version_of_the_task_fails_the_job_at_once():
    result = shop.versioned.enqueue()
    Memo.objects.bulk_create(
        [memo(result, name="charge", function_path="tests.durable_tasks.charge")]
    )
    run_one()

    job = fresh(result)
    assert (job.state, job.attempts, happened) == ("failed", 1, [])
    assert "recorded under version '1'" in job.errors[0].traceback
    assert "this code is version '2'" in job.errors[0].traceback


def memo(result, **columns):

    known = {
        "kind": "step",
        "ordinal": 0,
        "version": "1",
        "recorded_at": timezone.now(),
    }
    return Memo(job=result.id, **{**known, **columns})


def test_code_that_swallows_a_mismatch_fails_all_the_same():
    result = shop.swallow.enqueue()
    Memo.objects.bulk_create([memo(result, name="charge", version="old")])
    run_one()

    assert (fresh(result).state, happened) == ("failed", ["swallowed"])


# Sleeping


def test_a_job_sleeps_without_a_worker_and_goes_on_behind_it():
    told = []
    job_snoozed.connect(receiver := lambda **said: told.append(said["task_result"]))
    result = shop.sleepy.enqueue(600)
    slept = run_one()

    job = fresh(result)
    assert (job.state, job.attempts, job.history) == ("scheduled", 0, None)
    assert 590 < (job.run_after - job.enqueued_at).total_seconds() < 700
    assert (slept.status, [r.id for r in told]) == ("READY", [result.id])
    job_snoozed.disconnect(receiver)
    assert happened == ["charge 1"]

    api.run_now(result.id)
    assert run_one().return_value == 1
    assert happened == ["charge 1", "ship 1"]


def test_a_sleep_is_not_slept_again_when_a_later_attempt_fails():
    result = shop.sleepy.enqueue(600)
    run_one()
    api.run_now(result.id)
    code["ship fails"] = True
    run_one()
    code.clear()
    api.retry_failed_job(result.id)

    assert run_one().return_value == 2
    assert happened == ["charge 1", "ship 1", "ship 1"]


def test_who_is_woken_too_early_sleeps_on_until_the_same_moment():
    result = shop.sleepy.enqueue(600)
    run_one()
    before = fresh(result).run_after
    lifecycle.hasten(db.dialect("default"), [result.id])
    run_one()

    assert abs((fresh(result).run_after - before).total_seconds()) < 1
    assert happened == ["charge 1"]


def test_a_job_that_slept_is_not_too_late():
    result = shop.sleepy.enqueue(600)
    assert "expires_at" in fresh(result).policy
    run_one()

    assert fresh(result).policy is None


def test_a_coroutine_sleeps():
    result = shop.sleepy_later.enqueue(600)
    run_one()
    assert fresh(result).state == "scheduled"
    api.run_now(result.id)

    assert run_one().return_value == "parcel 1"
    assert happened == ["charge 1", "ship 1"]


def test_code_that_swallows_the_end_of_its_attempt_sleeps_all_the_same():
    result = shop.swallow.enqueue()
    run_one()

    assert fresh(result).state == "scheduled"
    assert happened == ["charge 1", "swallowed"]


# Without a database


@pytest.fixture
def immediate(settings):
    settings.TASKS = {
        "default": {"BACKEND": "windlass.testing.backends.ImmediateBackend"}
    }


def test_the_immediate_backend_runs_steps_and_all_time_passes_at_once(immediate):
    assert shop.order.enqueue(7).return_value == [RECEIPT, "parcel 7", None]
    assert shop.sleepy.enqueue(600).return_value == 1
    assert shop.wait.enqueue(timeout=60).return_value == ["too late"]
    assert shop.wait.enqueue().status == "READY"
    assert shop.order_later.enqueue(7).status == "SUCCESSFUL"


# In a job of several steps


def test_each_step_of_a_multi_step_job_remembers_for_itself(settings):
    path = "tests.durable_tasks.converse"
    hook = {"failure_hook": "tests.durable_tasks.on_failure"}
    settings.JOBS = {"talk": {"tasks": [path, path], **hook}}
    job = Job.objects.create(name="talk")
    for word in ("first", "second", "third"):
        api.send_event(job.pk, "word", word)
    run_all()

    job = Job.objects.get(pk=job.pk)
    assert (job.state, job.workspace) == ("succeeded", {"0": "first", "1": "second"})
    assert happened == ["charge 0", "charge 1"]


def test_a_step_that_waits_has_not_failed_and_goes_on_with_its_event(settings):
    path = "tests.durable_tasks.converse"
    hook = {"failure_hook": "tests.durable_tasks.on_failure"}
    settings.JOBS = {"talk": {"tasks": [path, path], **hook}}
    job = Job.objects.create(name="talk")
    for word in ("first", "second"):
        run_all()
        assert Job.objects.get(pk=job.pk).state == "scheduled"
        api.send_event(job.pk, "word", word)
    run_all()

    job = Job.objects.get(pk=job.pk)
    assert (job.state, job.workspace) == ("succeeded", {"0": "first", "1": "second"})
    assert happened == ["charge 0", "charge 1"]


# The end of it all


def prune():
    dialect = db.dialect("default")
    return lifecycle.prune(dialect, before=dialect.now() + timedelta(seconds=1))


def test_memos_and_events_go_with_their_job():
    kept, gone = shop.order.enqueue(1), shop.order.enqueue(2)
    api.send_event(gone.id, "paid")
    api.send_event(kept.id, "paid")
    LiveJob.objects.filter(pk=kept.id).update(queue_name="later")
    run_one()
    assert Memo.objects.filter(job=gone.id).count() == 3

    assert len(prune()) == 1

    assert not Memo.objects.exists()
    assert [str(event.job) for event in Event.objects.all()] == [kept.id]


def test_what_deleted_jobs_left_behind_goes_bit_by_bit():
    results = [shop.order.enqueue(number) for number in range(3)]
    for result in results:
        api.send_event(result.id, "paid")
    run_ready()
    EndedJob.objects.filter(pk__in=[results[0].id, results[2].id]).delete()
    dialect = db.dialect("default")

    after = memos.forget_gone(dialect, after=None, limit=2)
    assert {str(id) for id in Memo.objects.values_list("job", flat=True)} == {
        *(results[1].id, results[2].id)
    }
    after = memos.forget_gone(dialect, after=after, limit=2)

    assert after is None
    for model in (Memo, Event):
        assert {str(id) for id in model.objects.values_list("job", flat=True)} == {
            results[1].id
        }


def test_names_are_equal_when_they_are_the_same_characters():
    code["steps"] = [("é", charge), ("e", charge), ("E", charge), ("e ", charge)]
    result = shop.as_coded.enqueue()
    run_one()

    assert fresh(result).state == "succeeded"
    assert len(happened) == 4
    assert nothing() is None
