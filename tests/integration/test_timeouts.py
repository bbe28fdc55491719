"""A timeout ends the code, not only the record of it, wherever it runs."""

import time

import pytest

from tests.integration.project import stubborn, tasks
from tests.integration.runtime import is_running, once_in_all, workers
from tests.integration.states import job, states
from tests.waiting import eventually

pytestmark = once_in_all

GRACE = 0.5
OPTIONS = {**workers(threads=3), "stop_grace": GRACE, "shutdown_timeout": 5}


def assert_timed_out(result, *, says=""):
    found = job(result)
    assert (found.state, found.reason) == ("failed", "timeout"), found.history
    (error,) = found.errors
    assert error.exception_class_path == "windlass.exceptions.JobTimeout"
    assert "its timeout of 0.5 s" in error.traceback
    assert says in error.traceback


def test_python_code_is_ended_by_an_exception_and_its_worker_goes_on(start, journal):
    runtime = start(options=OPTIONS)
    pids = runtime.worker()
    result = stubborn.spin.enqueue()

    eventually(lambda: job(result).state == "failed")

    assert_timed_out(result, says="in spin")
    after = tasks.work.enqueue()
    eventually(lambda: job(after).state == "succeeded")
    assert runtime.worker() == pids
    assert runtime.stop() == 0


def test_a_stop_that_the_code_takes_for_its_end_is_a_timeout_all_the_same(
    start, journal
):
    start(options=OPTIONS)
    result = stubborn.clean_up.enqueue()

    eventually(lambda: job(result).state == "failed")

    assert_timed_out(result)
    assert len(journal.ends(result.id)) == 1


def test_a_timeout_is_retried_by_the_rules_of_any_failure(start, journal):
    start(options=OPTIONS)
    result = stubborn.spin_once.enqueue()

    eventually(lambda: job(result).state == "succeeded")

    assert job(result).return_value == 2
    assert [entry["cause"] for entry in job(result).history] == ["timeout"]


@pytest.mark.parametrize("name", ["sleep", "swallow", "compute", "block_loop"])
def test_code_that_does_not_end_takes_its_process_along_and_nobody_else(
    start, journal, name
):
    runtime = start(options=OPTIONS)
    (pid,) = runtime.worker()
    # Code that holds Python's lock lets nothing beside it come to its end.
    second = tasks.work_again if name == "compute" else tasks.work
    neighbours = [tasks.work_again.enqueue(0.6), second.enqueue(0.1)]
    eventually(lambda: len(journal.starts()) == 2)
    result = getattr(stubborn, name).enqueue()
    eventually(lambda: journal.starts(result.id))
    waiting = [tasks.work.enqueue() for _ in range(5)]

    eventually(lambda: not is_running(pid))
    eventually(lambda: states() == {"failed": 1, "succeeded": 7})

    assert_timed_out(result)
    for other in (*neighbours, *waiting):
        assert job(other).attempts == 1
        assert job(other).crashes == 0
    assert len(journal.starts(result.id)) == 1
    assert runtime.worker() != [pid]
    assert runtime.stop() == 0


def test_where_a_stuck_job_was_is_kept(start, journal):
    start(options=OPTIONS)
    result = stubborn.compute.enqueue()

    eventually(lambda: job(result).state == "failed")

    assert_timed_out(result, says="in _endless_in_c")


def test_coroutines_are_cancelled_and_their_loop_goes_on(start, journal):
    runtime = start(options=OPTIONS)
    pids = runtime.worker()
    result, other = stubborn.swim.enqueue(), tasks.swim.enqueue(1.0)

    eventually(lambda: states() == {"failed": 1, "succeeded": 1})

    assert_timed_out(result, says="in swim")
    assert job(other).attempts == 1
    assert runtime.worker() == pids


def test_a_process_gets_the_chance_to_clean_up(start, journal):
    start(options=OPTIONS)
    result = stubborn.process.enqueue()

    eventually(lambda: job(result).state == "failed")

    assert_timed_out(result, says="in process")
    assert len(journal.ends(result.id)) == 1


def test_a_process_that_ignores_every_plea_is_killed_with_all_it_started(
    start, journal
):
    runtime = start(options=OPTIONS)
    pids = runtime.worker()
    neighbour = tasks.work.enqueue(2.5)
    result = stubborn.stubborn_process.enqueue()
    (line,) = eventually(lambda: journal.lines("child"))

    eventually(lambda: not is_running(line.pid), timeout=20)
    dead_at = time.time()

    # The limit, the grace, and a second.
    (began,) = journal.starts(result.id)
    assert dead_at - began.time < stubborn.LIMIT + GRACE + 1
    eventually(lambda: not is_running(int(line.label)))
    eventually(lambda: job(result).state == "failed")
    assert_timed_out(result, says="in _endless_in_c")
    eventually(lambda: job(neighbour).state == "succeeded")
    assert runtime.worker() == pids
    assert job(result).history[-1]["exit_code"] == -9


def test_code_has_time_to_leave_things_in_order(start, journal):
    runtime = start(options={**OPTIONS, "stop_grace": 4})
    pids = runtime.worker()
    result = stubborn.tidy_up.enqueue(1.0)

    eventually(lambda: job(result).state == "failed")

    assert_timed_out(result)
    assert len(journal.ends(result.id)) == 1
    assert runtime.worker() == pids


def test_a_stop_records_no_timeout_of_code_that_still_runs(start, journal):
    runtime = start(options={**OPTIONS, "stop_grace": 30, "shutdown_timeout": 0.5})
    runtime.worker()
    result = stubborn.sleep.enqueue(60)
    eventually(lambda: journal.starts(result.id))
    eventually(lambda: time.time() > journal.starts(result.id)[0].time + 1.5)

    runtime.stop()

    assert_timed_out(result)
    assert job(result).finished_at.timestamp() > journal.starts(result.id)[0].time + 1.5
