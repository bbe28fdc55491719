"""The ledger: what a worker process has begun, told by a file that outlives it."""

import os
import signal
import time
import uuid
from datetime import UTC, datetime

import pytest

from windlass.db import Claimed
from windlass.runtime import identity, ledger
from windlass.runtime.ledger import BEGUN, CANCELLED, TIMED_OUT, Begun, Ledger


def claimed(claim=1):
    now = datetime.now(UTC)
    return Claimed(
        id=str(uuid.uuid4()),
        claim=claim,
        backend_alias="default",
        queue_name="default",
        nice=0,
        task_path="a.b",
        args="[]",
        kwargs="{}",
        attempts=1,
        max_attempts=1,
        crashes=0,
        enqueued_at=now,
        available_at=now,
        history=None,
        metadata=None,
        policy=None,
    )


@pytest.fixture
def node():
    node = identity.new_node_id()
    yield node
    ledger.forget(ledger.path_of(node))


def in_a_process_that_dies(body):
    """Run a function in a child that is killed right after it."""
    pid = os.fork()
    if not pid:
        try:
            body()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def test_what_a_killed_process_had_begun_can_be_read(node):
    begun, ended, never = claimed(3), claimed(), claimed()

    def work():
        mine = Ledger(node, slots=4)
        mine.start(begun, 1234.5)
        mine.clear(mine.start(ended, 1234.6))

    in_a_process_that_dies(work)

    found = ledger.read(node)
    assert found == {(begun.id, 3): Begun(1234.5)}
    assert (never.id, 1) not in found


def test_a_slot_is_used_again(node):
    last = claimed(7)

    def work():
        mine = Ledger(node, slots=1)
        for _ in range(5):
            mine.clear(mine.start(claimed(), 1.0))
        mine.start(last, 2.0)

    in_a_process_that_dies(work)

    assert ledger.read(node) == {(last.id, 7): Begun(2.0)}


def test_the_ledger_of_a_living_process_says_nothing(node):
    mine = Ledger(node, slots=1)
    mine.start(claimed(), 1.0)

    assert ledger.read(node) is None


def test_a_ledger_that_is_gone_or_cut_says_nothing(node):
    assert ledger.read(node) is None
    in_a_process_that_dies(lambda: Ledger(node, slots=1))
    assert ledger.read(node) == {}
    with ledger.path_of(node).open("r+b") as file:
        file.truncate(10)
    assert ledger.read(node) is None


def test_removing_it_twice_is_no_error(node):
    mine = Ledger(node, slots=1)
    mine.remove()
    mine.remove()
    assert not ledger.path_of(node).exists()


def test_nobody_else_may_read_it(node):
    Ledger(node, slots=1)
    path = ledger.path_of(node)
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_what_died_days_ago_is_swept_and_what_beats_is_not(node, monkeypatch):
    other = identity.new_node_id()
    old, beating = Ledger(node, slots=1).path, Ledger(other, slots=1).path
    # So long that nobody else's files are old enough.
    year = 365 * 86400
    monkeypatch.setattr(ledger, "KEPT", year)
    long_ago = time.time() - year - 60
    for path in (old, beating):
        os.utime(path, (long_ago, long_ago))
    ledger.touch(other)

    ledger.sweep(now=time.time())

    assert not old.exists()
    assert beating.exists()
    ledger.forget(beating)
    ledger.touch(other)  # of a dispatcher, say: it keeps none


# What ran too long


def states_of(node, *jobs):
    found = ledger.read(node)
    return [found[job.id, job.claim].state for job in jobs]


def test_what_was_told_to_stop_can_be_told_from_its_neighbours(node):
    neighbour, late, unwanted = claimed(), claimed(), claimed()

    def work():
        mine = Ledger(node, slots=4)
        mine.start(neighbour, 1.0)
        mine.mark(mine.start(late, 1.0, 5.0), TIMED_OUT)
        mine.mark(mine.start(unwanted, 1.0), CANCELLED)

    in_a_process_that_dies(work)

    assert states_of(node, neighbour, late, unwanted) == [BEGUN, TIMED_OUT, CANCELLED]


def test_the_supervisor_sees_when_a_process_is_overdue(node):
    mine = Ledger(node, slots=4)
    assert not ledger.is_overdue(node, now=1e9)

    mine.kill_at(100.0)

    assert not ledger.is_overdue(node, now=99.0)
    assert ledger.is_overdue(node, now=100.0)
    mine.kill_at(0.0)
    assert not ledger.is_overdue(node, now=1e9)
    assert not ledger.is_overdue(node + 1, now=1e9)


def test_only_jobs_past_their_deadline_are_marked_as_overdue(node):
    late, early, endless = claimed(), claimed(), claimed()

    def work():
        mine = Ledger(node, slots=4)
        mine.start(late, 1.0, 50.0)
        mine.start(early, 1.0, 150.0)
        mine.start(endless, 1.0)
        ledger.mark_overdue(node, now=100.0)

    in_a_process_that_dies(work)

    assert states_of(node, late, early, endless) == [TIMED_OUT, BEGUN, BEGUN]
    assert ledger.was_ended_on_purpose(node)


def test_a_process_that_just_died_was_not_ended_on_purpose(node):
    def work():
        mine = Ledger(node, slots=4)
        mine.mark(mine.start(claimed(), 1.0, 5.0), TIMED_OUT)

    in_a_process_that_dies(work)

    assert not ledger.was_ended_on_purpose(node)
    assert not ledger.was_ended_on_purpose(node + 1)


def test_a_child_is_noted_with_its_own_start(node):
    job = claimed()

    def work():
        mine = Ledger(node, slots=4)
        mine.child(mine.start(job, 1.0), os.getppid())

    in_a_process_that_dies(work)

    begun = ledger.read(node)[job.id, 1]
    assert (begun.child, begun.child_started) == (
        os.getpid(),
        identity.process_start(os.getpid()),
    )
