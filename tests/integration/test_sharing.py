"""Several supervisors on one database share its work and double nothing."""

import time

import pytest
from django.db import connection

from tests.integration.project import tasks
from tests.integration.runtime import workers
from tests.integration.states import job, states
from tests.waiting import eventually, never
from windlass.models import LiveJob
from windlass.tasks_api import task_backends


def test_two_supervisors_share_the_work_and_claim_each_job_once(start, journal):
    calls = [(tasks.work, [0.02], {}) for _ in range(300)]
    runtimes = [start(options=workers(processes=1, threads=2)) for _ in range(2)]
    pids = {pid for runtime in runtimes for pid in runtime.worker()}
    task_backends["default"].enqueue_all(calls)

    eventually(lambda: states() == {"succeeded": 300})

    assert set(journal.starts_by_job().values()) == {1}
    assert {line.pid for line in journal.starts()} == pids
    assert [runtime.stop() for runtime in runtimes] == [0, 0]


def test_a_slow_job_does_not_hold_its_neighbours(start, journal, tmp_path):
    gate = tmp_path / "gate"
    slow = tasks.wait_for.enqueue(str(gate))
    quick = [tasks.work.enqueue() for _ in range(8)]
    first = start("--only-work", options=workers(threads=1))
    first.worker()
    eventually(journal.starts)

    begun = time.time()
    start("--only-work", options=workers(threads=1)).worker()
    eventually(lambda: len(journal.ends()) == len(quick), timeout=5)

    assert journal.ends()[-1].time - begun < 3
    assert not journal.ends(slow.id)
    gate.touch()
    eventually(lambda: job(slow).state == "succeeded")
    assert set(journal.starts_by_job().values()) == {1}


def test_neighbours_of_a_slow_job_keep_their_budget_and_order(start, journal, tmp_path):
    gate = tmp_path / "gate"
    tasks.wait_for.enqueue(str(gate))
    quick = [tasks.work.enqueue(label=str(number)) for number in range(5)]
    runtime = start(options=workers(threads=1))
    runtime.worker()
    # Claimed beside it at first, then given back and left alone while it runs.
    eventually(lambda: states().get("ready") == 5)
    before = claims(quick)
    never(lambda: claims(quick) > before, during=1.0)

    gate.touch()
    eventually(lambda: states() == {"succeeded": 6})
    assert {job(result).attempts for result in quick} == {1}


def claims(results):
    """How often these jobs were claimed."""
    rows = LiveJob.objects.filter(pk__in=[result.id for result in results])
    return sum(rows.values_list("claim", flat=True))


@pytest.mark.parametrize("wakeup", ["auto", "poll"])
def test_an_idle_worker_starts_a_new_job_soon(start, journal, wakeup):
    is_told = wakeup == "auto" and connection.vendor == "postgresql"
    # One that is told of new jobs need not look for them.
    every = 3.0 if is_told else 0.4
    options = {**workers(threads=1, polling_interval=every), "wakeup": wakeup}
    start(options=options).worker()
    waits = []
    for count in range(1, 6):
        # Until it has gone back to waiting for news, and no longer looks by itself.
        still = time.monotonic() + 0.3
        eventually(lambda still=still: time.monotonic() > still)
        begun = time.time()
        tasks.work.enqueue()
        eventually(lambda count=count: len(journal.ends()) == count)
        waits.append(journal.starts()[-1].time - begun)

    assert sorted(waits)[2] < (0.5 if is_told else every + 0.2), waits
