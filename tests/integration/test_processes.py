"""Jobs in processes of their own, which do nothing to anybody else."""

import signal
import time

from tests.integration.project import stubborn, tasks
from tests.integration.runtime import is_running, kill, once_in_all, parent, workers
from tests.integration.states import job, states
from tests.waiting import eventually

pytestmark = once_in_all

OPTIONS = {**workers(threads=3), "stop_grace": 0.5, "shutdown_timeout": 5}


def ends(result):
    return eventually(lambda: job(result).finished_at and job(result))


def test_a_job_runs_in_a_process_and_group_of_its_own(start, journal):
    runtime = start(options=OPTIONS)
    (worker,) = runtime.worker()
    result = stubborn.add.enqueue(1, 2)

    found = ends(result)

    assert found.state == "succeeded", found.errors
    (line,) = journal.starts(result.id)
    assert found.return_value["sum"] == 3
    assert found.return_value["group"] == line.pid != worker
    assert found.progress["message"] == "half"
    assert not is_running(line.pid)


def test_coroutine_functions_can_run_there_too(start, journal):
    start(options=OPTIONS)

    assert ends(stubborn.add_later.enqueue(3, 4)).return_value == 7


def test_its_failures_are_retried_by_its_policies(start, journal):
    start(options=OPTIONS)

    found = ends(stubborn.fail_once.enqueue())

    assert (found.state, found.return_value, found.attempts) == ("succeeded", "well", 2)
    assert [entry["cause"] for entry in found.history] == ["error", ""]
    assert len(found.errors) == 1


def test_what_it_used_is_kept(start, journal):
    start(options=OPTIONS)

    found = ends(stubborn.eat.enqueue(80_000_000))

    (entry,) = found.history
    assert entry["exit_code"] == 0
    assert entry["peak_memory"] > 80_000_000
    assert entry["cpu_seconds"] >= 0.05


def test_an_exit_fails_its_own_job_and_says_how(start, journal):
    runtime = start(options=OPTIONS)
    pids = runtime.worker()
    result, neighbour = stubborn.leave.enqueue(3), tasks.work.enqueue(0.3)

    found = ends(result)

    assert (found.state, found.reason) == ("failed", "crashed")
    assert "exited with status 3" in found.errors[0].traceback
    assert found.history[0]["exit_code"] == 3
    assert ends(neighbour).state == "succeeded"
    assert runtime.worker() == pids


def test_a_job_that_kills_its_process_each_time_is_given_up_with_the_reason(
    start, journal
):
    runtime = start(options=OPTIONS)
    pids = runtime.worker()

    found = ends(stubborn.die.enqueue())

    assert (found.state, found.reason) == ("failed", "crashed")
    assert (found.attempts, found.crashes) == (3, 3)
    assert "SIGKILL" in found.errors[0].traceback
    assert "gone 3 times" in found.errors[-1].traceback
    assert runtime.worker() == pids


def test_nothing_of_it_outlives_a_killed_worker(start, journal):
    runtime = start(options=OPTIONS)
    (worker,) = runtime.worker()
    result = stubborn.endless_process.enqueue()
    (line,) = eventually(lambda: journal.starts(result.id))

    kill(worker)

    eventually(lambda: not is_running(line.pid))
    eventually(lambda: len(journal.starts(result.id)) == 2)
    second = journal.starts(result.id)[1]
    runtime.send_to_group(signal.SIGKILL)
    eventually(lambda: not is_running(second.pid))


def test_a_worker_whose_fork_server_died_is_replaced(start, journal):
    runtime = start(options=OPTIONS)
    (worker,) = runtime.worker()
    result = stubborn.endless_process.enqueue()
    (line,) = eventually(lambda: journal.starts(result.id))

    kill(parent(line.pid))

    eventually(lambda: len(journal.starts(result.id)) == 2)
    assert not is_running(line.pid)
    assert runtime.worker() != [worker]
    assert runtime.stop() == 0


def test_work_in_a_process_is_handed_back_at_the_end_of_a_stop(start, journal):
    runtime = start(options={**OPTIONS, "shutdown_timeout": 0.5})
    runtime.worker()
    result = stubborn.endless_process.enqueue()
    (line,) = eventually(lambda: journal.starts(result.id))

    assert runtime.stop() == 0

    assert not is_running(line.pid)
    assert states() == {"ready": 1}
    assert job(result).attempts == 0


def test_a_job_that_comes_too_late_gets_no_process(start, journal):
    result = stubborn.too_late.enqueue()
    eventually(lambda: time.time() > result.enqueued_at.timestamp() + 0.2)

    start(options=OPTIONS)

    found = ends(result)
    assert (found.state, found.reason) == ("discarded", "expired")
    assert not journal.starts(result.id)


def test_a_fork_server_that_died_while_nobody_looked_is_replaced(start, journal):
    runtime = start(options=OPTIONS)
    (worker,) = runtime.worker()
    first = stubborn.add.enqueue(1, 1)
    server = ends(first).return_value["parent"]
    kill(server)
    # Until it is dead it may take a job along.
    eventually(lambda: not is_running(server))

    second = stubborn.add.enqueue(2, 2)

    assert ends(second).return_value["sum"] == 4
    assert job(second).attempts == 1
    assert runtime.worker() != [worker]
