"""A process that dies is replaced, and what it held recovered for what it was."""

import os
import signal
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from tests.integration.project import tasks
from tests.integration.runtime import is_running, kill, workers
from tests.integration.states import job, ledgers, states
from tests.waiting import eventually
from windlass.models import LiveJob, Node
from windlass.runtime import identity

ONE_THREAD = workers(threads=1)


@pytest.fixture
def gate(tmp_path):
    """A file; tasks that wait for it run until a test makes it."""
    return tmp_path / "gate"


@pytest.fixture
def held(journal, gate):
    """Jobs for one thread: the first runs until the gate opens, the rest wait."""

    def held(first, more=3):
        jobs = [first.enqueue(str(gate)), *(tasks.work.enqueue() for _ in range(more))]
        return jobs[0], jobs[1:]

    return held


def wait_for_start(journal, count=1):
    eventually(lambda: len(journal.starts()) == count)


def test_a_killed_worker_is_replaced_and_its_jobs_run_again(start, journal, gate, held):
    first, rest = held(tasks.wait_for_again)
    runtime = start(options=ONE_THREAD)
    (pid,) = runtime.worker()
    wait_for_start(journal)

    kill(pid)
    gate.touch()

    eventually(lambda: states() == {"succeeded": 4}, timeout=20)
    assert journal.attempts_by_job()[first.id] == [1, 2]
    assert job(first).attempts == 2
    assert job(first).crashes == 1
    (entry,) = job(first).history
    assert entry["error"] == "windlass.exceptions.ProcessExitError"
    assert (entry["attempt"], entry["cause"]) == (1, "crashed")
    assert "SIGKILL" in entry["traceback"]
    for result in rest:
        # Never started, so nothing was spent.
        assert (job(result).attempts, job(result).history) == (1, None)
    assert runtime.worker() != [pid]


def test_a_started_job_with_one_attempt_fails_and_never_starts_twice(
    start, journal, gate, held
):
    first, _rest = held(tasks.wait_for)
    runtime = start(options=ONE_THREAD)
    (pid,) = runtime.worker()
    wait_for_start(journal)

    kill(pid)
    gate.touch()

    eventually(lambda: states() == {"succeeded": 3, "failed": 1}, timeout=20)
    assert job(first).reason == "crashed"
    assert job(first).errors[0].exception_class_path.endswith("ProcessExitError")
    assert set(journal.starts_by_job().values()) == {1}


def test_coroutines_are_recovered_as_well(start, journal, gate):
    results = [tasks.swim_until.enqueue(str(gate)) for _ in range(5)]
    runtime = start(options=workers(async_concurrency=2))
    (pid,) = runtime.worker()
    wait_for_start(journal, 2)

    kill(pid)
    gate.touch()

    eventually(lambda: states() == {"succeeded": 3, "failed": 2}, timeout=20)
    assert {job(r).reason for r in results} == {"", "crashed"}
    assert set(journal.starts_by_job().values()) == {1}


def test_a_drain_waits_for_what_its_dead_worker_held(start, journal, gate, held):
    held(tasks.wait_for_again)
    runtime = start("--drain", options=ONE_THREAD)
    (pid,) = runtime.worker()
    wait_for_start(journal)

    kill(pid)
    gate.touch()

    assert runtime.wait() == 0
    assert states() == {"succeeded": 4}


def test_a_killed_dispatcher_is_replaced_and_its_row_goes(start):
    runtime = start()
    (before,) = eventually(lambda: runtime.nodes(Node.Kind.DISPATCHER))

    kill(before.pid)

    eventually(
        lambda: (
            [n.pk for n in runtime.nodes(Node.Kind.DISPATCHER)] not in ([], [before.pk])
        )
    )
    eventually(lambda: not Node.objects.filter(pk=before.pk).exists())


def test_workers_end_when_their_supervisor_is_killed(start, journal, gate, held):
    held(tasks.wait_for_again)
    runtime = start(options={**ONE_THREAD, "shutdown_timeout": 0.5})
    runtime.worker()
    wait_for_start(journal)

    kill(runtime.pid)

    eventually(lambda: not runtime.processes())
    assert states() == {"ready": 4}
    assert set(LiveJob.objects.values_list("attempts", flat=True)) == {0}
    assert not Node.objects.exists()

    gate.touch()
    start()
    eventually(lambda: states() == {"succeeded": 4})


def test_a_new_supervisor_recovers_by_the_ledger_what_was_killed_whole(
    start, journal, gate, held
):
    first, rest = held(tasks.wait_for_again)
    once = tasks.wait_for.enqueue(str(gate))
    runtime = start(options=ONE_THREAD)
    runtime.worker()
    wait_for_start(journal)

    runtime.kill()
    (path,) = ledgers()
    gate.touch()
    assert start("--drain", options=ONE_THREAD).wait() == 0

    assert states() == {"succeeded": 5}
    assert journal.attempts_by_job()[first.id] == [1, 2]
    for result in [*rest, once]:
        assert (job(result).attempts, job(result).history) == (1, None)
    assert not Node.objects.exists()
    assert not path.exists()


def test_only_work_recovers_its_own_host_too(start, journal, gate, held):
    held(tasks.wait_for_again)
    runtime = start(options=ONE_THREAD)
    runtime.worker()
    wait_for_start(journal)

    runtime.kill()
    gate.touch()

    assert start("--only-work", "--drain", options=ONE_THREAD).wait() == 0
    assert states() == {"succeeded": 4}


def test_a_dead_host_is_recovered_by_its_heartbeat_and_all_counts_as_started(
    start, journal, gate, held
):
    first, rest = held(tasks.wait_for_again)
    again = tasks.wait_for_again.enqueue(str(gate))
    runtime = start(options=ONE_THREAD)
    runtime.worker()
    wait_for_start(journal)
    runtime.kill()
    held_then = {
        str(id) for id in LiveJob.objects.running().values_list("id", flat=True)
    }
    for path in ledgers():
        path.unlink()
    long_ago = timezone.now() - timedelta(seconds=60)
    Node.objects.update(host="elsewhere/0/0", heartbeat_at=long_ago)
    gate.touch()

    start(options=ONE_THREAD)
    eventually(lambda: Node.objects.filter(host="elsewhere/0/0").count() == 0)
    eventually(lambda: not LiveJob.objects.exists())

    assert (job(first).state, job(first).attempts) == ("succeeded", 2)
    assert job(first).history[0]["error"].endswith("ProcessPrunedError")
    assert job(first).history[0]["cause"] == "lost"
    assert job(again).state == "succeeded"
    assert held_then > {first.id}
    for result in rest:
        expected = ("failed", "lost") if result.id in held_then else ("succeeded", "")
        assert (job(result).state, job(result).reason) == expected


def test_a_silent_node_that_lives_is_fenced_off(start, journal, gate):
    result = tasks.wait_for_again.enqueue(str(gate))
    runtime = start()
    (pid,) = runtime.worker()
    wait_for_start(journal)

    kill(pid, signal.SIGSTOP)
    other = start()
    eventually(lambda: len(journal.starts()) == 2)
    kill(pid, signal.SIGCONT)
    eventually(lambda: "its row was removed" in runtime.said())
    # It stops at once: whatever it went on with, others have it.
    eventually(lambda: not is_running(pid))
    gate.touch()

    eventually(lambda: job(result).state == "succeeded")
    assert [line.attempt for line in journal.ends()] == [2]
    assert job(result).attempts == 2
    assert other.stop() == 0


@pytest.mark.skipif(
    connection.vendor == "sqlite", reason="it has one writer, who locks all"
)
def test_a_node_that_stands_still_within_a_transaction_locks_nothing_for_long(
    start, journal, tmp_path
):
    results = [tasks.work.enqueue() for _ in range(3)]
    frozen = tmp_path / "frozen"
    asleep = start(
        WINDLASS_TEST_APPS="tests.integration.frozen_claims.FrozenClaims",
        WINDLASS_TEST_FROZEN=str(frozen),
    )
    (pid,) = asleep.worker()
    eventually(frozen.exists)

    other = start()

    eventually(lambda: states() == {"succeeded": 3})
    kill(pid, signal.SIGCONT)
    assert asleep.stop() == other.stop() == 0
    assert {job(result).attempts for result in results} == {1}
    assert set(journal.starts_by_job().values()) == {1}


def test_claims_of_a_node_that_nobody_knows_are_swept(start, journal):
    again, once = tasks.work_again.enqueue(), tasks.work.enqueue()
    LiveJob.objects.update(node=12345, started_at=timezone.now(), attempts=1, claim=1)

    start()

    eventually(lambda: job(again).state == "succeeded")
    assert job(again).attempts == 2
    assert job(again).history[0]["error"].endswith("ProcessMissingError")
    assert (job(once).state, job(once).reason) == ("failed", "lost")
    assert not journal.starts(once.id)


@pytest.mark.parametrize("status", [0, 3])
def test_a_task_that_exits_its_process_fails_alone(start, journal, status):
    bad = tasks.exit_process.enqueue(status)
    good = [tasks.work_again.enqueue() for _ in range(5)]

    assert start("--drain").wait() == 0

    assert (job(bad).state, job(bad).reason) == ("failed", "crashed")
    assert f"status {status}" in job(bad).errors[0].traceback
    assert {job(result).state for result in good} == {"succeeded"}
    assert journal.starts_by_job()[bad.id] == 1


def test_a_task_that_exits_its_process_once_succeeds_the_second_time(start, journal):
    result = tasks.exit_process_once.enqueue()

    assert start("--drain").wait() == 0

    assert (job(result).state, job(result).attempts) == ("succeeded", 2)


def test_a_task_that_always_kills_its_process_ends_with_its_budget(start, journal):
    result = tasks.always_kill.enqueue()

    assert start("--drain").wait() == 0

    assert (job(result).state, job(result).reason) == ("failed", "crashed")
    assert [entry["attempt"] for entry in job(result).history] == [1, 2, 3]
    assert journal.attempts_by_job()[result.id] == [1, 2, 3]


def test_a_node_of_a_reused_pid_is_not_taken_for_the_living(start, journal):
    # The row's pid runs (it is ours), but that process is younger than the node.
    result = tasks.work_again.enqueue()
    node = 4242
    LiveJob.objects.update(node=node, started_at=timezone.now(), attempts=1, claim=1)
    Node.objects.create(
        id=node,
        kind="worker",
        backend_alias="default",
        name="reused",
        host=identity.host(),
        pid=os.getpid(),
        process_started=1,
        started_at=timezone.now(),
        heartbeat_at=timezone.now() + timedelta(days=1),
        version="0",
    )

    start()

    eventually(lambda: job(result).state == "succeeded")
    assert not Node.objects.filter(pk=node).exists()


def test_a_node_that_wakes_begins_nothing_that_others_have_by_now(
    start, journal, gate, held
):
    _first, rest = held(tasks.wait_for)
    runtime = start(options=workers(threads=1, processes=1))
    (pid,) = runtime.worker()
    wait_for_start(journal)

    kill(pid, signal.SIGSTOP)
    start(options=ONE_THREAD)
    eventually(lambda: states().get("running", 0) == 0)
    gate.touch()
    kill(pid, signal.SIGCONT)
    eventually(lambda: not is_running(pid))

    # None of the rest had begun, and none may any more: it may not run twice.
    for result in rest:
        ran = len(journal.starts(result.id))
        assert ran == (1 if job(result).state == "succeeded" else 0)
