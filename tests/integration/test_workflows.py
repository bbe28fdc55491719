"""Workflows run by real workers: whoever ends last moves the run on, once."""

import pytest

from tests import flow_tasks as tasks
from tests.faults.workflows import Killing
from tests.integration.runtime import once_in_all, workers
from tests.waiting import eventually
from windlass.models import LiveJob
from windlass.workflows import Workflow, chain, group


def crowd(size, call):
    return group([call for _ in range(size)])


def test_members_that_end_in_several_workers_at_once_let_the_next_one_go_once(start):
    flow = Workflow("crowds")
    for number in range(4):
        flow.add(
            chain(
                crowd(60, tasks.give.s(number)),
                crowd(20, tasks.total.s()),
                tasks.total.s(),
                name=f"chain {number}",
            )
        )
    run = flow.enqueue()

    start(options=workers(processes=2, threads=4)).worker(2)
    start(options=workers(processes=2, threads=4))

    assert run.wait(timeout=100), run.progress
    assert run.state == "succeeded"
    assert {job.attempts for job in run.jobs} == {1}
    assert run.result("chain 3/total") == 3 * 60 * 20
    assert not LiveJob.objects.exists()


@once_in_all
def test_a_running_member_of_a_cancelled_run_is_stopped(start):
    flow = Workflow("long")
    flow.add(tasks.endless)
    flow.add(tasks.give, depends_on=flow.members[0])
    run = flow.enqueue()
    start(options=workers(processes=1, threads=2))
    eventually(lambda: LiveJob.objects.running().exists())

    run.cancel("enough")

    assert run.wait(timeout=60), run.progress
    assert run.state == "cancelled"
    assert run.progress.cancelled == 2


@once_in_all
def test_tasks_in_processes_of_their_own_and_on_the_loop_take_part(start):
    flow = Workflow("kinds")
    flow.add(tasks.double, flow.add(tasks.apart, 3), name="last")
    run = flow.enqueue()
    start(options=workers(processes=1, threads=2))

    assert run.wait(timeout=60), run.progress
    assert run.result("last") == 8


@pytest.mark.timeout(115)
@pytest.mark.parametrize("jobs", [60, pytest.param(150, marks=once_in_all)])
def test_a_run_ends_as_the_model_says_while_its_workers_are_killed(
    committed, journal, tmp_path, jobs
):
    killing = Killing(tmp_path, jobs, seed=jobs)
    killing.run()

    print(killing.summary())  # noqa: T201
    for runtime in killing.fleet.runtimes:
        print(f"--- {runtime.output.name}\n{runtime.said()[-3000:]}")  # noqa: T201
    assert killing.broken == []
