"""What tasks do to the process they run in, and to each other."""

import pytest

from tests.integration.project import stubborn, tasks
from tests.integration.runtime import workers
from tests.integration.states import job, states
from tests.waiting import eventually

ONE_THREAD = workers(threads=1)


@pytest.mark.parametrize(
    ("task", "error"),
    [
        (tasks.system_exit, "SystemExit"),
        (tasks.keyboard_interrupt, "KeyboardInterrupt"),
        (tasks.recurse, "RecursionError"),
        (tasks.swim_into_system_exit, "SystemExit"),
        (stubborn.out_of_memory, "MemoryError"),
    ],
)
def test_a_task_cannot_end_the_thread_it_runs_in(start, journal, task, error):
    bad = [task.enqueue() for _ in range(4)]
    good = [tasks.work.enqueue(), tasks.swim.enqueue()]

    runtime = start(options=ONE_THREAD)
    (pid,) = runtime.worker()

    eventually(lambda: states() == {"failed": 4, "succeeded": 2})
    assert {job(r).errors[0].exception_class_path for r in bad} == {f"builtins.{error}"}
    assert {job(r).state for r in good} == {"succeeded"}
    assert runtime.worker() == [pid]


@pytest.mark.parametrize(
    "task",
    [tasks.break_connection, tasks.leave_block_open, tasks.leave_transaction_open],
)
def test_a_spoilt_connection_is_not_left_to_the_next_job(start, task):
    task.enqueue()
    after = [tasks.use_connection.enqueue() for _ in range(3)]

    assert start("--drain", options=ONE_THREAD).wait() == 0

    assert {job(result).state for result in after} == {"succeeded"}


def test_coroutines_share_the_loop_up_to_its_limit_beside_threads(start, journal):
    for _ in range(12):
        tasks.swim.enqueue(0.1, "async")
    for _ in range(4):
        tasks.work.enqueue(0.05, "sync")

    runtime = start("--drain", options=workers(threads=1, async_concurrency=4))

    assert runtime.wait() == 0
    assert states() == {"succeeded": 16}
    assert most_at_once(journal, "async") == 4
    assert most_at_once(journal, "sync") == 1
    assert len({line.pid for line in journal.lines()}) == 1


def most_at_once(journal, label):
    """The highest number of tasks with this label that were inside together."""
    inside = most = 0
    for line in sorted(journal.lines(), key=lambda line: line.time):
        if line.label == label:
            inside += {"start": 1, "end": -1}[line.event]
            most = max(most, inside)
    return most


@pytest.mark.parametrize("name", ["fork", "fork_in_process"])
def test_the_child_of_a_task_that_forks_does_not_report_its_job(start, journal, name):
    result = getattr(stubborn, name).enqueue()
    runtime = start(options=ONE_THREAD)
    (pid,) = runtime.worker()

    eventually(lambda: job(result).finished_at)

    assert (job(result).state, job(result).return_value) == ("succeeded", "parent")
    after = tasks.use_connection.enqueue()
    eventually(lambda: job(after).state == "succeeded")
    assert "taken over" not in runtime.said()
    assert runtime.worker() == [pid]
    assert runtime.stop() == 0
