"""Workflows in one thread: what runs, in which order, with which results."""

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from tests import flow_tasks as tasks
from tests.flows import drain, names, outcomes
from windlass import api
from windlass.exceptions import DuplicateJob, EnqueueError, InvalidArguments
from windlass.models import Job
from windlass.workflows import Workflow, chain, group
from windlass.workflows.models import WorkflowEdge, WorkflowMember, WorkflowRun

pytestmark = pytest.mark.usefixtures("committed")


def finished(flow):
    """Enqueue a flow, run whatever of it can run, and give back the run."""
    run = flow.enqueue()
    drain()
    run.refresh()
    return run


# Graphs, chains, groups


def test_a_graph_runs_each_member_after_those_it_depends_on():
    flow = Workflow("import")
    fetch = flow.add(tasks.give, 1, name="fetch")
    parse = flow.add(tasks.give, 2, depends_on=[fetch], name="parse")
    index = flow.add(tasks.give, 3, depends_on=[fetch], name="index")
    flow.add(tasks.give, 4, depends_on=[parse, index], name="report")

    run = flow.enqueue()
    done = [result.return_value for result in drain()]

    assert done in ([1, 2, 3, 4], [1, 3, 2, 4])
    run.refresh()
    assert run.state == "succeeded"
    assert run.finished_at is not None


def test_all_jobs_exist_from_the_start_and_those_that_wait_are_blocked():
    flow = Workflow("import")
    first = flow.add(tasks.give)
    flow.add(tasks.give, depends_on=first)

    run = flow.enqueue()

    assert [job.state for job in run.jobs.order_by("pk")] == ["ready", "blocked"]
    assert run.state == "running"
    assert (run.progress.done, run.progress.total) == (0, 2)


def test_a_member_among_the_arguments_stands_for_its_result_and_is_waited_for():
    flow = Workflow("sum")
    one = flow.add(tasks.give, 1)
    two = flow.add(tasks.give, {"deep": [2]})
    flow.add(tasks.told, {"of": [one, {"and": two}]}, name="last")

    run = finished(flow)

    assert run.result("last") == {"of": [1, {"and": {"deep": [2]}}]}
    assert Job.objects.get(pk=run.members.get(name="last").pk).args == [
        {"of": [1, {"and": {"deep": [2]}}]}
    ]


def test_a_chain_hands_each_result_on_unless_a_call_is_immutable():
    run = finished(
        chain(tasks.give.s(1), tasks.add.s(2), tasks.give.si(7), tasks.add.s(1))
    )

    assert [job.return_value for job in run.jobs.order_by("pk")] == [1, 3, 7, 8]


def test_a_group_gives_its_results_to_whoever_is_called_on_success():
    run = finished(
        group(
            [tasks.give.s(n) for n in range(3)],
            on_complete=tasks.told.s(),
            on_success=tasks.total.s(),
            on_failure=tasks.give.s(),
        )
    )

    assert run.state == "succeeded"
    assert run.result("total") == 3
    assert run.result("told")[1] == {"name": "give-2", "state": "succeeded", "value": 1}
    assert outcomes(run)["give-4"] == "skipped"


def test_a_group_that_fails_calls_back_with_how_each_member_ended():
    run = finished(
        group(
            [tasks.give.s(1), tasks.fail.s(), tasks.give.s(3)],
            on_complete=tasks.told.s(),
            on_success=tasks.total.s(),
            on_failure=tasks.told.s(),
        )
    )

    assert run.state == "failed"
    said = [
        {"name": "give", "state": "succeeded", "value": 1},
        {"name": "fail", "state": "failed", "value": None},
        {"name": "give-2", "state": "succeeded", "value": 3},
    ]
    assert run.result("told") == run.result("told-2") == said
    assert outcomes(run)["total"] == "skipped"


def test_a_group_of_nothing_completes_at_once():
    flow = group([], on_complete=tasks.told.s(), on_success=tasks.total.s())

    run = flow.enqueue()

    assert [job.state for job in run.jobs] == ["ready", "ready"]
    drain()
    assert (run.result("told"), run.result("total")) == ([], 0)
    assert Workflow("nothing").enqueue().state == "succeeded"


def test_a_group_in_a_chain_is_given_the_result_before_and_hands_on_a_list():
    inner = group([tasks.add.s(1), tasks.add.s(2)])

    run = finished(chain(tasks.give.s(10), inner, tasks.total.s()))

    assert run.result("total") == 23


def test_chains_in_a_group_run_beside_each_other():
    flow = group(
        [chain(tasks.give.s(n), tasks.add.s(1), name=f"of {n}") for n in range(3)],
        on_success=tasks.told.s(),
    )

    run = finished(flow)

    assert run.result("told") == [1, 2, 3]
    assert run.result("of 2/add") == 3


def test_a_workflow_in_a_workflow_is_one_member_of_it():
    inner = Workflow("inner")
    inner.add(tasks.give, 1, name="a")
    inner.add(tasks.give, 2, name="b")
    flow = Workflow("outer")
    before = flow.add(tasks.give)
    both = flow.add(inner, depends_on=before)
    flow.add(tasks.told, both, name="after")

    run = finished(flow)

    assert run.result("after") == [1, 2]
    assert list(outcomes(run)) == ["give", "inner/a", "inner/b", "after"]


def test_the_same_flow_may_be_enqueued_and_nested_again_and_again():
    flow = Workflow("twice")
    part = chain(tasks.give.s(1), tasks.add.s(1))
    flow.add(part)
    flow.add(part)

    runs = [finished(flow), finished(flow)]

    assert {run.state for run in runs} == {"succeeded"}
    assert list(outcomes(runs[0])) == [
        *("chain/give", "chain/add", "chain-2/give", "chain-2/add"),
    ]


def test_crowds_wait_for_crowds_by_way_of_a_gate():
    flow = chain(
        group([tasks.give.s(n) for n in range(50)]),
        group([tasks.told.s() for _ in range(50)]),
    )

    run = finished(flow)

    assert run.state == "succeeded"
    assert WorkflowEdge.objects.filter(run=run.pk).count() < 250
    assert run.result("group-2/told-50") == list(range(50))


# Kinds of members


def test_members_of_every_kind_take_part():
    flow = Workflow("kinds", on_failure="continue")
    flow.add(tasks.double, 4, name="async")
    flow.add(tasks.limited, flow.add(tasks.give, 3), name="limited")
    flow.add(tasks.fail_first, 2, 5, name="third time")
    flow.add(tasks.expiring, depends_on=flow.members[0], name="expiring")
    flow.add(tasks.only, depends_on=flow.members[0], name="unique")
    flow.add(tasks.one_of, 1, name="first of its key")
    flow.add(tasks.one_of, 1, name="second of its key")

    run = finished(flow)

    assert run.result("async") == 8
    assert run.result("limited") == 3
    limited = run.jobs.get(pk=run.members.get(name="limited").pk)
    assert limited.concurrency_key == "flow:3"
    assert run.result("third time") == 5
    assert run.result("expiring") == "in time"
    assert run.result("unique") == "only"
    assert outcomes(run)["first of its key"] == "succeeded"
    assert outcomes(run)["second of its key"] == "discarded"


def test_a_task_that_is_in_no_workflow_knows():
    tasks.outside.enqueue()

    assert drain()[0].return_value is True


def test_a_priority_and_a_queue_are_those_of_the_call():
    urgent = tasks.give.using(priority=7, queue_name="fast")

    run = chain(tasks.give.s(1), urgent.s()).enqueue()

    last = run.jobs.get(pk=run.members.last().pk)
    assert (last.priority, last.queue_name) == (7, "fast")


# Failures


def diamond(**options):
    flow = Workflow("diamond", **options)
    bad = flow.add(tasks.fail, name="bad")
    good = flow.add(tasks.give, 1, name="good")
    flow.add(tasks.told, bad, name="after bad")
    flow.add(tasks.give, 2, depends_on=good, name="after good")
    flow.add(tasks.give, depends_on=names(flow, "after bad", "after good"), name="last")
    return flow


def test_stop_starts_nothing_more():
    run = finished(diamond())

    assert run.state == "failed"
    assert outcomes(run) == {
        "bad": "failed",
        **dict.fromkeys(["good", "after bad", "after good", "last"], "skipped"),
    }
    skipped = run.jobs.get(pk=run.members.get(name="last").pk)
    assert skipped.state == "cancelled"
    assert "bad is failed" in skipped.errors[0].traceback


def test_continue_skips_only_what_depends_on_the_failure():
    run = finished(diamond(on_failure="continue"))

    assert run.state == "failed"
    assert outcomes(run) == {
        "bad": "failed",
        "good": "succeeded",
        "after bad": "skipped",
        "after good": "succeeded",
        "last": "skipped",
    }


def test_ignore_goes_on_as_if_the_result_were_none():
    run = finished(diamond(on_failure="ignore"))

    assert run.state == "succeeded"
    assert outcomes(run)["bad"] == "failed"
    assert outcomes(run)["last"] == "succeeded"
    assert run.result("after bad") is None


def test_a_member_may_have_a_policy_of_its_own():
    flow = Workflow("mixed")
    bad = flow.add(tasks.fail, on_failure="ignore")
    flow.add(tasks.give, 1, depends_on=bad)

    assert finished(flow).state == "succeeded"


def test_a_nested_flow_that_stops_stops_only_itself():
    inner = Workflow("inner")
    inner.add(tasks.fail)
    inner.add(tasks.give, name="beside")
    flow = Workflow("outer", on_failure="continue")
    nested = flow.add(inner)
    flow.add(tasks.give, depends_on=nested, name="after")
    flow.add(tasks.give, name="elsewhere")

    run = finished(flow)

    assert outcomes(run) == {
        "inner/fail": "failed",
        "inner/beside": "skipped",
        "after": "skipped",
        "elsewhere": "succeeded",
    }


def test_the_failure_of_a_nested_flow_may_be_ignored():
    flow = Workflow("outer")
    nested = flow.add(chain(tasks.fail.s(), tasks.give.s()), on_failure="ignore")
    flow.add(tasks.told, nested, name="after")

    run = finished(flow)

    assert run.state == "succeeded"
    assert run.result("after") is None


def test_callbacks_of_a_group_that_never_began_are_skipped():
    never = group([tasks.give.s()], on_complete=tasks.told.s())

    run = finished(chain(tasks.fail.s(), never))

    assert set(outcomes(run).values()) == {"failed", "skipped"}


def test_a_member_that_is_cancelled_or_discarded_has_failed():
    flow = group(
        [tasks.give.s(1), tasks.give.s(2), tasks.give.s(3)], on_failure=tasks.told.s()
    )
    run = flow.enqueue()
    one, two, _three = run.members[:3]

    api.cancel_job(one.pk, "by hand")
    api.discard_ready_jobs([two.pk])
    drain()

    run.refresh()
    assert run.state == "failed"
    states = [said["state"] for said in run.result("told")]
    assert states == ["cancelled", "discarded", "succeeded"]


# At the door


def test_a_rollback_takes_the_whole_run_with_it():
    flow = chain(tasks.give.s(1), tasks.give.s())

    with transaction.atomic():
        flow.enqueue()
        transaction.set_rollback(True)

    for model in (Job, WorkflowRun, WorkflowMember, WorkflowEdge):
        assert not model.objects.exists()


def test_ten_thousand_members_are_stored_in_few_statements():
    flow = group([tasks.give.s(n) for n in range(10_000)], on_success=tasks.told.s())

    with CaptureQueriesContext(connection) as captured:
        run = flow.enqueue()

    assert run.progress.total == 10_001
    assert len(captured) < 250


@pytest.mark.parametrize(
    "call",
    [
        lambda flow: flow.add(len),
        lambda flow: flow.add(tasks.give, depends_on=["fetch"]),
        lambda flow: flow.add(tasks.give, depends_on=Workflow("x").add(tasks.give)),
        lambda flow: chain(),
        lambda flow: chain(tasks.give),
        lambda flow: group([tasks.give]),
        lambda flow: group([], on_complete=tasks.give),
        lambda flow: (flow.add(flow), flow.enqueue()),
        lambda flow: (flow.add(tasks.give.using(backend="other")), flow.enqueue()),
    ],
)
def test_what_is_no_workflow_is_refused(call, settings):
    settings.TASKS = {
        **settings.TASKS,
        "other": {"BACKEND": settings.TASKS["default"]["BACKEND"], "QUEUES": []},
    }
    flow = Workflow("flow")
    flow.add(tasks.give, name="fetch")

    with pytest.raises(EnqueueError, match=r"flow|chain|group"):
        call(flow)
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    "call",
    [
        lambda flow: Workflow(""),
        lambda flow: Workflow("a/b"),
        lambda flow: Workflow("x", on_failure="panic"),
        lambda flow: flow.add(tasks.give, on_failure="panic"),
        lambda flow: flow.add(tasks.give, name="fetch"),
    ],
)
def test_words_that_mean_nothing_are_refused(call):
    flow = Workflow("flow")
    flow.add(tasks.give, name="fetch")

    with pytest.raises(ValueError):
        call(flow)


def test_arguments_that_are_no_json_are_refused_and_nothing_is_stored():
    flow = chain(tasks.give.s(1), tasks.add.s(object()))

    with pytest.raises(InvalidArguments):
        flow.enqueue()
    with pytest.raises(TypeError, match="workspace"):
        Workflow("x", workspace={"a": object()})
    assert not WorkflowRun.objects.exists()


def test_a_unique_key_that_is_held_refuses_the_whole_run():
    tasks.only.enqueue()
    flow = Workflow("flow")
    flow.add(tasks.give)
    flow.add(tasks.only, depends_on=flow.members[0])

    with pytest.raises(DuplicateJob):
        flow.enqueue()
    assert Job.objects.count() == 1


def test_a_unique_member_is_not_given_results():
    with pytest.raises(EnqueueError, match="unique"):
        chain(tasks.give.s(1), tasks.one_of.s()).enqueue()
