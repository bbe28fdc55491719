"""Telling code to stop hits that code and nothing that runs there later."""

import threading
import time
import uuid
from datetime import UTC, datetime

import pytest

from tests.waiting import eventually
from windlass.db import Claimed
from windlass.exceptions import JobCancelled, JobTimeout
from windlass.runtime import identity, ledger
from windlass.runtime.ledger import Ledger
from windlass.runtime.running import Running, settle
from windlass.runtime.watch import Watch


def claimed(policy=None):
    now = datetime.now(UTC)
    return Claimed(
        *(str(uuid.uuid4()), 1, "default", "default", 0, "a.b", "[]", "{}", 1, 1, 0),
        *(now, now, None, None, policy),
    )


@pytest.fixture
def running():
    node = identity.new_node_id()
    yield Running(Ledger(node, slots=100))
    ledger.forget(ledger.path_of(node))


@pytest.fixture
def watch(running):
    overdue = []
    watch = Watch(running, grace=1.0, overrun=overdue.append)
    watch.overdue = overdue
    return watch


def spin(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def in_thread(body):
    caught = []

    def work():
        try:
            body()
        except BaseException as error:  # noqa: BLE001 - it is what is looked at
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, caught


def test_a_late_stop_does_not_reach_the_next_job(running, watch):
    # Given many short jobs in one thread, each with a deadline that is just over.
    survived, stopped = [], []

    def work():
        for _ in range(100):
            job = claimed('{"timeout": 0.001}')
            # As the engine calls a task.
            try:
                try:
                    running.begin(job)
                    spin(0.02)
                finally:
                    running.done(job)
            except JobTimeout:
                stopped.append(job)
            running.ledger.clear(running.end(job))
            # When nothing of that job may be left: this is somebody else's code.
            for _step in range(50):
                survived.append(_step)

    thread, caught = in_thread(work)
    while thread.is_alive():
        watch.tick(now=time.monotonic())

    assert not caught
    assert len(survived) == 100 * 50
    assert stopped


def test_code_is_stopped_at_its_deadline_and_not_before(running, watch):
    job, now = claimed('{"timeout": 10}'), time.monotonic()
    held = running.begin(job)
    held.wake = lambda: None

    assert watch.tick(now=now + 9) <= 1.1
    assert held.stop is None
    watch.tick(now=now + 10.1)
    assert isinstance(held.stop, JobTimeout)

    with pytest.raises(JobTimeout, match=f"{job.id}.*timeout of 10 s"):
        running.done(job)


def test_a_cancelled_job_is_told_why(running, watch):
    job = claimed()
    held = running.begin(job)
    held.wake = lambda: None
    running.cancels = {job.id: "wrong file"}

    watch.tick(now=time.monotonic())

    assert running.stop_asked(job)
    with pytest.raises(JobCancelled, match="wrong file"):
        running.done(job)


def test_a_job_that_is_cancelled_already_does_not_begin(running):
    job = claimed()
    running.cancels = {job.id: ""}

    with pytest.raises(JobCancelled):
        running.begin(job)

    assert running.end(job) is None


def test_code_that_does_not_end_is_overdue_after_its_grace(running, watch):
    job, now = claimed('{"timeout": 1}'), time.monotonic()
    gate = threading.Event()

    def work():
        running.begin(job)
        while not gate.is_set():
            try:
                gate.wait(0.01)
            except JobTimeout:
                continue
        settle(running.jobs[job.id])

    thread, caught = in_thread(work)
    eventually(lambda: job.id in running.jobs)
    watch.tick(now=now + 1.5)
    watch.tick(now=now + 2.0)
    assert not watch.overdue

    watch.tick(now=now + 2.6)

    assert [held.job for held in watch.overdue] == [job]
    gate.set()
    thread.join()
    assert not caught


def test_the_supervisor_learns_when_to_kill_and_when_not_to(running, watch):
    job, now = claimed('{"timeout": 5}'), time.monotonic()
    node = int(running.ledger.path.stem, 16)

    running.begin(job)
    assert ledger.is_overdue(node, now=now + 5 + 1 + 1.5)
    assert not ledger.is_overdue(node, now=now + 5)

    running.end(job)
    watch.tick(now=now)
    assert not ledger.is_overdue(node, now=now + 1e6)
