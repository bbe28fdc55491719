"""A runtime that ends when nothing is left to do."""

import pytest

from tests.integration.project import tasks
from tests.integration.runtime import workers
from tests.integration.states import job, ledgers, running, states
from tests.waiting import eventually
from windlass.models import Node

TWO = workers(processes=2, threads=2)


def test_a_drain_runs_everything_and_exits_0(start, journal):
    for _ in range(20):
        tasks.work.enqueue()
    failing = [tasks.system_exit.enqueue() for _ in range(2)]

    assert start("--drain").wait() == 0

    assert states() == {"succeeded": 20, "failed": 2}
    assert set(journal.starts_by_job().values()) == {1}
    for result in failing:
        assert job(result).reason == "error"
    assert not Node.objects.exists()


def test_a_drain_runs_the_jobs_that_jobs_enqueue(start, journal):
    tasks.enqueue_more.enqueue(3, depth=3)

    assert start("--drain", options=TWO).wait() == 0

    assert states() == {"succeeded": 1 + 3 + 9 + 27}
    assert set(journal.starts_by_job().values()) == {1}


def test_a_drain_leaves_no_ledger_behind(start, journal, tmp_path):
    tasks.wait_for.enqueue(str(tmp_path / "gate"))
    runtime = start("--drain")
    eventually(journal.starts)
    (path,) = ledgers()
    assert path.exists()

    (tmp_path / "gate").touch()

    assert runtime.wait() == 0
    assert not path.exists()


def test_a_drain_of_nothing_ends_at_once(start):
    assert start("--drain").wait(15) == 0


@pytest.mark.parametrize("mode", ["fork", "async"])
def test_both_modes_drain_threads_and_coroutines(start, mode):
    for _ in range(10):
        tasks.work.enqueue()
        tasks.swim.enqueue()

    assert start("--drain", "--mode", mode).wait() == 0

    assert states() == {"succeeded": 20}


def test_max_jobs_is_exact_with_two_processes(start, journal):
    for _ in range(60):
        tasks.work.enqueue(0.005)

    assert start("--max-jobs", "37", options=TWO).wait() == 0

    assert len(journal.starts()) == 37
    assert states() == {"succeeded": 37, "ready": 23}


def test_max_jobs_counts_only_what_was_started(start, journal, tmp_path):
    # The first job holds the only thread of its worker, so what this worker claimed
    # beside it is handed back and must not count. The other may have ended by then.
    gate = tmp_path / "gate"
    tasks.wait_for.enqueue(str(gate))
    for _ in range(20):
        tasks.work.enqueue()
    runtime = start("--max-jobs", "12", options=workers(processes=2, threads=1))
    runtime.worker(2)

    eventually(lambda: len(journal.ends()) >= 10)
    gate.touch()

    assert runtime.wait() == 0
    assert len(journal.starts()) == 12
    assert running() == 0
