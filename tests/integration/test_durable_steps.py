"""Durable steps in real workers: killed between two steps, asleep, in conversation."""

import threading

import pytest
from django.db import connection

from tests.integration.project import tasks
from tests.integration.runtime import kill, workers
from tests.integration.states import job, states
from tests.waiting import eventually
from windlass.api import send_event
from windlass.models import Memo


def test_a_worker_that_is_killed_between_two_steps_repeats_only_the_second(
    start, journal, tmp_path
):
    gate = tmp_path / "gate"
    result = tasks.two_steps.enqueue(str(gate))
    runtime = start(options=workers(threads=1))
    (pid,) = runtime.worker()
    eventually(journal.starts)

    kill(pid)
    eventually(lambda: len(journal.starts()) == 2)
    gate.touch()

    eventually(lambda: job(result).state == "succeeded")
    assert len(journal.lines("step")) == 1
    assert len(journal.ends()) == 1
    assert {line.pid for line in journal.lines("step")} == {pid}


def test_a_sleep_outlives_the_runtime_and_is_slept_once(start, journal):
    result = tasks.nap.enqueue(3)
    first = start(options=workers(threads=1))
    eventually(lambda: journal.lines("step") and job(result).state == "scheduled")
    first.stop()

    start(options=workers(threads=1))
    eventually(lambda: job(result).state == "succeeded")

    (begun,), (ended,) = journal.lines("step"), journal.ends()
    assert ended.time - begun.time >= 3
    assert ended.attempt == 1


@pytest.mark.parametrize(
    ("task", "jobs", "words"),
    [
        (tasks.converse, 40, 4),
        (tasks.converse_later, 40, 4),
        (tasks.converse_apart, 4, 3),
    ],
    ids=["thread", "event loop", "process"],
)
def test_in_a_storm_of_events_each_is_taken_once_and_wakes_its_job(
    start, journal, task, jobs, words
):
    """One that was lost would be found only by a look an hour later."""
    results = [task.enqueue(words) for _ in range(jobs)]
    start(options=workers(threads=4, polling_interval=0.2)).worker()
    eventually(lambda: journal.lines("step"))

    def send(mine):
        for word in range(words):
            for result in mine:
                send_event(result.id, "word", word)
        connection.close()

    senders = [
        threading.Thread(target=send, args=[results[part::2]]) for part in range(2)
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()

    eventually(lambda: states() == {"succeeded": jobs})
    assert all(job(result).return_value == list(range(words)) for result in results)
    assert len(journal.lines("step")) == jobs
    assert Memo.objects.filter(kind="event").count() == jobs * words
