"""A stop: what has started may end, the rest goes back, a second signal forces."""

import os
import signal

import pytest

from tests.integration.project import tasks
from tests.integration.runtime import kill, once_in_all, workers
from tests.integration.states import job, ledgers, running, states
from tests.waiting import eventually
from windlass.models import LiveJob, Node

STOPS = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT]
ASKS = [signal.SIGTERM, signal.SIGINT]


@pytest.fixture
def gate(tmp_path):
    """A file; tasks that wait for it run until a test makes it."""
    return tmp_path / "gate"


@pytest.fixture
def busy(start, journal, gate):
    """A runtime whose two threads are taken, with more jobs claimed and waiting."""

    def busy(*arguments, **options):
        once = tasks.wait_for.enqueue(str(gate), "once")
        again = tasks.wait_for_again.enqueue(str(gate), "again")
        rest = [tasks.work.enqueue() for _ in range(10)]
        runtime = start(*arguments, options={**workers(threads=2), **options})
        eventually(lambda: len(journal.starts()) == 2)
        return runtime, once, again, rest

    return busy


class Slow:
    """Where an app that stands still says so, and where it waits."""

    def __init__(self, directory):
        self.here, self.pipe = directory / "here", directory / "pipe"
        os.mkfifo(self.pipe)

    def __call__(self, app):
        """The environment of a runtime with this app."""
        where = f"{self.here}:{self.pipe}"
        return {"WINDLASS_TEST_APPS": app, "WINDLASS_TEST_SLOW": where}

    def let_go(self):
        """Let it go on, if it still waits."""
        os.close(os.open(self.pipe, os.O_WRONLY | os.O_NONBLOCK))


@pytest.fixture
def slow(tmp_path):
    """A runtime that stands still at its begin or its end, until it is let go."""
    return Slow(tmp_path)


@once_in_all
@pytest.mark.parametrize("mode", ["fork", "async"])
@pytest.mark.parametrize("number", STOPS)
def test_an_idle_runtime_stops_at_once(start, number, mode):
    runtime = start("--mode", mode)
    eventually(Node.objects.filter(kind="worker").exists)

    assert runtime.stop(number, timeout=4) == 0

    assert not Node.objects.exists()


@pytest.mark.parametrize("number", ASKS)
def test_a_busy_runtime_ends_what_started_and_hands_back_the_rest(
    busy, journal, gate, number
):
    runtime, once, again, rest = busy()

    runtime.send(number)
    eventually(lambda: running() == 2)
    assert set(LiveJob.objects.waiting().values_list("attempts", flat=True)) == {0}
    gate.touch()

    assert runtime.wait() == 0
    assert job(once).state == job(again).state == "succeeded"
    assert states() == {"succeeded": 2, "ready": len(rest)}
    assert len(journal.starts()) == 2
    assert set(LiveJob.objects.values_list("attempts", flat=True)) == {0}
    assert not Node.objects.exists()


@once_in_all
@pytest.mark.parametrize("number", ASKS)
def test_a_signal_to_the_whole_group_is_one_signal(busy, journal, gate, number):
    # Ctrl-C in a terminal and systemd's default both signal every process.
    runtime, once, again, _rest = busy()

    runtime.send_to_group(number)
    eventually(lambda: running() == 2)
    gate.touch()

    assert runtime.wait() == 0
    assert job(once).state == job(again).state == "succeeded"
    assert len(journal.starts()) == 2


@once_in_all
@pytest.mark.parametrize("mode", ["fork", "async"])
def test_two_signals_at_once_are_one(busy, gate, mode):
    # A terminal signals the whole group, and a wrapper hands on what it got.
    runtime, once, again, _rest = busy("--mode", mode)

    runtime.send(signal.SIGINT)
    runtime.send(signal.SIGTERM)
    eventually(lambda: running() == 2)
    gate.touch()

    assert runtime.wait() == 0
    assert job(once).state == job(again).state == "succeeded"


@pytest.mark.parametrize("mode", ["fork", "async"])
def test_a_second_signal_forces(busy, mode):
    runtime, once, again, rest = busy("--mode", mode)
    (ledger,) = ledgers()

    runtime.send(signal.SIGTERM)
    eventually(lambda: running() == 2)

    assert runtime.insist() == 0
    assert_taken_away(once, again, rest)
    assert not Node.objects.exists()
    assert not ledger.exists()


def test_sigquit_forces_at_once(busy):
    runtime, once, again, rest = busy()

    assert runtime.stop(signal.SIGQUIT, timeout=10) == 0

    assert_taken_away(once, again, rest)


def test_after_the_shutdown_timeout_work_in_hand_is_taken_away(busy):
    runtime, once, again, rest = busy(shutdown_timeout=0.5)

    assert runtime.stop(timeout=10) == 0

    assert_taken_away(once, again, rest)


def assert_taken_away(once, again, rest):
    """A started job that may not run twice has failed; all others wait untouched."""
    ended = job(once)
    assert (ended.state, ended.reason) == ("failed", "interrupted")
    assert ended.errors[0].exception_class_path.endswith("ProcessExitError")
    assert (job(again).state, job(again).attempts) == ("ready", 0)
    assert states() == {"failed": 1, "ready": 1 + len(rest)}
    assert set(LiveJob.objects.values_list("attempts", flat=True)) == {0}


def test_coroutines_are_handed_back_and_interrupted_too(start, journal, gate):
    for _ in range(6):
        tasks.swim_until.enqueue(str(gate))
    runtime = start(options=workers(async_concurrency=2))
    eventually(lambda: len(journal.starts()) == 2)

    runtime.send(signal.SIGTERM)
    eventually(lambda: running() == 2)

    assert runtime.insist() == 0
    assert states() == {"failed": 2, "ready": 4}


@once_in_all
@pytest.mark.parametrize("attempt", range(3))
def test_a_signal_right_after_the_fork_is_heard(start, attempt):
    runtime = start(options=workers(processes=3))
    eventually(lambda: len(runtime.processes()) > 1 + attempt)

    assert runtime.stop(timeout=8) == 0


@once_in_all
@pytest.mark.parametrize("mode", ["fork", "async"])
@pytest.mark.parametrize("number", STOPS)
def test_a_signal_that_comes_while_tasks_are_imported_stops_it_well(
    start, slow, mode, number
):
    runtime = start("--mode", mode, **slow("tests.integration.slow.SlowStart"))
    eventually(slow.here.exists)

    runtime.send(number)

    assert runtime.wait(timeout=10) == 0
    assert not Node.objects.exists()


@once_in_all
def test_a_signal_once_more_at_the_very_end_changes_nothing(start, slow):
    runtime = start(**slow("tests.integration.slow.ending.SlowEnd"))
    eventually(Node.objects.filter(kind="worker").exists)
    runtime.send(signal.SIGTERM)
    eventually(slow.here.exists)

    for number in STOPS:
        runtime.send(number)
    slow.let_go()

    assert runtime.wait(timeout=10) == 0


@once_in_all
def test_a_worker_told_to_stop_by_itself_is_replaced(start, journal, gate):
    result = tasks.wait_for.enqueue(str(gate))
    runtime = start()
    (pid,) = runtime.worker()
    eventually(journal.starts)

    # Twice, as when an operator is not patient: only the supervisor forces.
    kill(pid, signal.SIGTERM)
    kill(pid, signal.SIGTERM)
    gate.touch()

    eventually(lambda: runtime.nodes() and runtime.worker() != [pid])
    assert job(result).state == "succeeded"


def test_a_claim_whose_answer_was_lost_is_given_back_by_a_worker_that_stops(start):
    results = [tasks.work.enqueue() for _ in range(3)]

    runtime = start(WINDLASS_TEST_APPS="tests.integration.lost_answers.LostAnswers")

    assert runtime.wait() == 0
    assert "the connection was lost" in runtime.said()
    assert states() == {"ready": 3}
    assert {job(result).attempts for result in results} == {0}
    assert not Node.objects.exists()
