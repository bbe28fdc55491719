"""What is done with a run: cancel, retry, workspace, repair, wait."""

import threading

import pytest
from django.db import (
    DatabaseError,
    InternalError,
    connection,
    connections,
    transaction,
)
from django.utils import timezone

from tests import flow_tasks as tasks
from tests.flows import drain, outcomes, reconcile
from windlass import api, conf, db
from windlass.exceptions import StaleJob
from windlass.jobs import followers, lifecycle
from windlass.models import CancelRequest, EndedJob, Job, LiveJob
from windlass.workflows import Workflow, chain, group, workflow_finished
from windlass.workflows.models import WorkflowMember, WorkflowRun, WorkflowSpace
from windlass.workflows.reconciler import KEPT_FOR

pytestmark = pytest.mark.usefixtures("committed")


def three(*, second=tasks.give):
    flow = Workflow("three")
    one = flow.add(tasks.give, 1, name="one")
    two = flow.add(second, one, name="two")
    flow.add(tasks.told, two, name="three")
    return flow


# Cancel


def test_a_cancelled_run_starts_nothing_more():
    run = three().enqueue()
    drain(most=1)

    run.cancel("enough")

    assert run.state == "cancelled"
    assert outcomes(run) == {
        "one": "succeeded",
        "two": "cancelled",
        "three": "cancelled",
    }
    assert drain() == []
    assert not LiveJob.objects.exists()
    ended = run.jobs.get(pk=run.members.get(name="three").pk)
    assert "enough" in ended.errors[0].traceback


def test_a_running_member_is_told_to_stop_and_the_run_ends_with_it():
    run = three().enqueue()
    (claimed,) = api.claim_ready_jobs(1)

    run.cancel()

    assert run.state == "running"
    assert str(CancelRequest.objects.get().job) == claimed.id
    api.execute_claimed_job(claimed)
    run.refresh()
    assert run.state == "cancelled"


def test_cancelling_a_finished_run_changes_nothing():
    run = three().enqueue()
    drain()

    run.cancel()

    assert run.state == "succeeded"


def test_a_rollback_undoes_a_cancel():
    run = three().enqueue()
    with transaction.atomic():
        run.cancel()
        transaction.set_rollback(True)
    drain()

    run.refresh()
    assert run.state == "succeeded"


# Retry


def test_a_retry_runs_what_failed_and_what_was_skipped_because_of_it(monkeypatch):
    run = three(second=tasks.fail_if_told).enqueue()
    monkeypatch.setattr(tasks, "FAILS", True)
    drain()
    run.refresh()
    assert (run.state, outcomes(run)["three"]) == ("failed", "skipped")

    monkeypatch.setattr(tasks, "FAILS", False)
    assert run.retry() == 2
    assert run.state == "running"
    drain()

    run.refresh()
    assert run.state == "succeeded"
    assert run.result("three") == 1
    assert run.retry() == 0


def test_a_retry_from_a_member_runs_it_and_all_that_comes_after_again(monkeypatch):
    monkeypatch.setattr(tasks, "CALLS", [])
    run = three(second=tasks.one_more).enqueue()
    drain()
    assert run.result("three") == 1

    assert run.retry("two") == 2
    assert [result.return_value for result in drain()] == [2, 2]

    assert run.result("three") == 2
    attempts = [job.attempts for job in run.jobs.order_by("pk")]
    assert attempts == [1, 2, 2]


def test_durable_steps_of_a_member_that_succeeded_are_taken_anew(monkeypatch):
    monkeypatch.setattr(tasks, "CALLS", [])
    run = chain(tasks.stepping.s()).enqueue()
    drain()

    run.retry("stepping")
    drain()

    assert run.result("stepping") == 2


def test_a_retry_calls_back_again(monkeypatch):
    monkeypatch.setattr(tasks, "FAILS", True)
    flow = group(
        [tasks.give.s(1), tasks.fail_if_told.s(2)],
        on_complete=tasks.told.s(),
        on_failure=tasks.give.s(),
        on_success=tasks.total.s(),
    )
    run = flow.enqueue()
    drain()
    assert outcomes(run)["total"] == "skipped"

    monkeypatch.setattr(tasks, "FAILS", False)
    run.retry()
    drain()

    run.refresh()
    assert run.state == "succeeded"
    assert run.result("total") == 3
    assert outcomes(run)["give-2"] == "skipped"
    assert [said["state"] for said in run.result("told")] == ["succeeded"] * 2


def test_a_member_that_somebody_retries_by_hand_goes_on_with_its_run(monkeypatch):
    monkeypatch.setattr(tasks, "FAILS", True)
    run = three(second=tasks.fail_if_told).enqueue()
    drain()
    monkeypatch.setattr(tasks, "FAILS", False)

    api.retry_failed_job(run.members.get(name="two").pk)
    run.refresh()
    assert run.state == "running"
    drain()

    run.refresh()
    assert run.state == "succeeded"
    assert run.result("three") == 1


def test_a_cancelled_run_may_be_retried():
    run = three().enqueue()
    run.cancel()

    assert run.retry() == 3
    drain()

    run.refresh()
    assert run.state == "succeeded"


def test_a_run_whose_jobs_were_pruned_is_not_retried():
    run = three().enqueue()
    run.cancel()
    prune(run, "two")

    with pytest.raises(StaleJob, match="two"):
        run.retry()
    run.refresh()
    assert run.state == "cancelled"
    assert not LiveJob.objects.exists()


# The workspace


def test_members_share_a_workspace_and_each_change_keeps_the_others():
    flow = Workflow("notes", workspace={"a": 0})
    first = flow.add(tasks.note, a=1)
    flow.add(tasks.note, b=[2], depends_on=first, name="second")

    run = flow.enqueue()
    assert run.workspace == {"a": 0}
    drain()

    assert run.result("second") == {"a": 1, "b": [2]}
    assert run.workspace == {"a": 1, "b": [2]}


def test_writers_at_the_same_time_lose_no_update():
    flow = group([tasks.count.s("n") for _ in range(24)])
    run = flow.enqueue()
    claimed = [api.claim_ready_jobs(6) for _ in range(4)]

    def work(jobs):
        for job in jobs:
            api.execute_claimed_job(job)
        connections.close_all()

    threads = [threading.Thread(target=work, args=[jobs]) for jobs in claimed]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    run.refresh()
    assert run.state == "succeeded"
    assert run.workspace == {"n": 24}


def test_a_workspace_takes_json_only_and_an_error_keeps_it_as_it_was():
    run = Workflow("bad", on_failure="continue")
    run.add(tasks.spoil)
    run = run.enqueue()

    (result,) = drain()

    assert "workspace" in result.errors[0].traceback
    assert run.workspace == {}


def test_a_ghost_does_not_write_to_the_workspace():
    run = chain(tasks.note.s(a=1)).enqueue()
    (claimed,) = api.claim_ready_jobs(1)
    LiveJob.objects.update(claim=claimed.job.claim + 1)

    with pytest.raises(StaleJob):
        api.execute_claimed_job(claimed)

    assert run.workspace == {}


# Repair


def prune(run, name):
    EndedJob.objects.filter(pk=run.members.get(name=name).pk)._raw_delete("default")


def test_an_end_that_nobody_followed_is_found(monkeypatch):
    run = three().enqueue()
    monkeypatch.setattr(followers, "_followers", [])
    drain()
    assert outcomes(run) == dict.fromkeys(["one", "two", "three"], "")
    monkeypatch.undo()

    reconcile()
    drain()

    run.refresh()
    assert run.state == "succeeded"
    assert run.result("three") == 1


def test_a_member_whose_job_is_gone_has_failed(monkeypatch):
    run = three().enqueue()
    monkeypatch.setattr(followers, "_followers", [])
    drain(most=1)
    prune(run, "one")
    monkeypatch.undo()

    reconcile()

    run.refresh()
    assert run.state == "failed"
    assert outcomes(run) == {"one": "pruned", "two": "skipped", "three": "skipped"}


def test_results_are_handed_on_though_their_jobs_are_gone():
    flow = Workflow("kept")
    one = flow.add(tasks.give, 1, name="one")
    two = flow.add(tasks.give, 2, name="two")
    flow.add(tasks.add, one, two, name="sum")
    run = flow.enqueue()
    drain(most=1)
    prune(run, "one")
    drain()

    assert run.result("sum") == 3


def test_a_follower_that_fails_keeps_no_end_from_being_stored(monkeypatch, caplog):
    run = three().enqueue()

    def fail(*args, **kwargs):
        raise ValueError("on purpose")

    monkeypatch.setattr("windlass.workflows.engine.Advance.settle", fail)
    drain(most=1)
    monkeypatch.undo()

    assert "What follows the end" in caplog.text
    assert run.jobs.filter(state="succeeded").count() == 1
    reconcile()
    drain()
    run.refresh()
    assert run.state == "succeeded"


@pytest.mark.skipif(
    connections["default"].vendor != "postgresql",
    reason="only PostgreSQL ends connections whose transaction is idle",
)
def test_an_end_is_not_taken_for_stored_if_the_connection_went_while_it_was_followed(
    monkeypatch,
):
    three().enqueue()
    (claimed,) = api.claim_ready_jobs(1)

    def lose(*args, **kwargs):
        connection.connection.close()
        # As PostgreSQL says it, when a transaction has been idle for too long.
        raise InternalError("terminating connection")

    monkeypatch.setattr("windlass.workflows.engine.Advance.settle", lose)
    with pytest.raises(DatabaseError):
        api.execute_claimed_job(claimed)
    connection.close()

    assert Job.objects.get(pk=claimed.id).state == "running"


def test_a_cancel_that_missed_a_job_is_said_again():
    run = three().enqueue()
    (claimed,) = api.claim_ready_jobs(1)
    run.cancel()
    dialect = db.dialect("default")
    # Its worker gives it back instead of ending it.
    lifecycle.record(dialect, claimed.hold.node, [lifecycle.release(claimed.job)])

    reconcile()

    run.refresh()
    assert run.state == "cancelled"


# The end


def test_the_end_of_a_run_is_told_once():
    told = []

    def receiver(sender, run, **kwargs):
        told.append((sender, run.pk, run.state))

    run = three().enqueue()
    workflow_finished.connect(receiver)
    try:
        reconcile()
        assert told == []
        drain()
        reconcile()
        reconcile()
    finally:
        workflow_finished.disconnect(receiver)

    assert told == [(WorkflowRun, run.pk, "succeeded")]


def test_waiting_ends_with_the_run_or_with_the_time():
    run = three().enqueue()
    assert run.wait(timeout=0) is False
    drain()

    assert run.wait(timeout=5) is True
    assert run.state == "succeeded"
    with pytest.raises(ValueError, match="timeout"):
        run.wait(timeout=-1)


def test_a_run_is_forgotten_with_the_last_of_its_jobs_and_not_before():
    run, other = three().enqueue(), three().enqueue()
    drain()
    long_ago = timezone.now() - 2 * KEPT_FOR
    WorkflowRun.objects.update(finished_at=long_ago)
    EndedJob.objects.filter(pk__in=[job.pk for job in run.jobs])._raw_delete("default")

    reconcile()
    reconcile(prune=True)

    assert list(WorkflowRun.objects.all()) == [other]
    assert WorkflowSpace.objects.count() == 1
    assert set(WorkflowMember.objects.values_list("run", flat=True)) == {other.pk}


# What others are spared


def test_jobs_of_no_workflow_ask_nothing_of_workflows():
    tasks.give.enqueue(1)
    (claimed,) = api.claim_ready_jobs(1)
    tables = ("windlass_workflow",)

    with CaptureAll() as said:
        api.execute_claimed_job(claimed)

    assert not [sql for sql in said if any(table in sql for table in tables)]
    assert Job.objects.get().state == "succeeded"


class CaptureAll:
    """The statements of a connection, as the driver's wrapper sees them."""

    def __enter__(self):
        self.said = []

        def note(execute, sql, params, many, context):
            self.said.append(sql)
            return execute(sql, params, many, context)

        self.wrapper = connection.execute_wrapper(note)
        self.wrapper.__enter__()
        return self.said

    def __exit__(self, *error):
        self.wrapper.__exit__(*error)


def test_a_dispatcher_brings_a_reconciler():
    from windlass.runtime import service

    made = service.offered["workflows"](conf.options("default"))

    assert made.name == "workflows"
    assert made.tick() > 0
