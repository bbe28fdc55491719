"""Concurrency limits seen from outside: which tasks were inside at the same time."""

import random
import time

import pytest

from tests.integration.project import tasks
from tests.integration.runtime import kill, once_in_all, workers
from tests.integration.states import states
from tests.waiting import eventually
from windlass.models import Slot, Waiter
from windlass.tasks_api import default_task_backend

KEYS = ("a", "b", "c")
LIMIT = 2


def most_inside(journal, killed):
    """For each key, how many tasks were inside at most; one killed was until then."""
    most = {}
    for key in KEYS:
        lines = [line for line in journal.lines() if line.label == key]
        ended = {(x.job, x.attempt): x.tick for x in lines if x.event == "end"}
        events = []
        for line in lines:
            if line.event == "start":
                end = ended.get((line.job, line.attempt), killed.get(line.pid))
                assert end is not None, f"{line} never ended and was not killed"
                events += [(line.tick, 1), (end, -1)]
        inside = most[key] = 0
        for _tick, change in sorted(events):
            inside += change
            most[key] = max(most[key], inside)
    return most


def enqueue(count, seconds=0.05):
    calls = [
        (tasks.limited, [KEYS[number % len(KEYS)]], {"seconds": seconds})
        for number in range(count)
    ]
    default_task_backend.enqueue_all(calls)


# Quick jobs get a slot by the dozen.
@pytest.mark.parametrize(
    ("count", "seconds"),
    [(300, 0.05), pytest.param(3000, 0.003, marks=once_in_all)],
)
def test_limits_hold_though_workers_are_killed_and_nothing_is_left_waiting(
    start, journal, count, seconds
):
    enqueue(count, seconds)
    options = workers(processes=2, threads=2)
    runtimes = [start(options=options), start(options=options)]
    for runtime in runtimes:
        runtime.worker(2)
    chance, killed = random.Random(7), {}

    for _round in range(8):
        seen = len(journal.lines("start"))
        eventually(
            lambda seen=seen: (
                len(journal.lines("start")) > seen + 6 or set(states()) == {"succeeded"}
            ),
            timeout=30,
        )
        pids = [node.pid for node in chance.choice(runtimes).nodes()]
        pid = chance.choice(pids) if pids else None
        if pid is not None and pid not in killed:
            killed[pid] = time.monotonic()
            kill(pid)

    eventually(lambda: states() == {"succeeded": count}, timeout=120)
    most = most_inside(journal, killed)
    assert most == dict.fromkeys(KEYS, LIMIT)
    eventually(lambda: not Slot.objects.exists() and not Waiter.objects.exists())


def test_a_node_that_dies_frees_its_slots_for_another(start, journal):
    enqueue(6, seconds=60)
    first = start(options=workers(threads=6))
    eventually(lambda: len(journal.lines("start")) == 6)
    lost = set(journal.starts_by_job())
    enqueue(3, seconds=0)
    second = start(options=workers(threads=6))
    second.worker()
    eventually(lambda: states().get("blocked") == 3)

    first.kill()

    # Those that waited may come before what was lost.
    eventually(lambda: all(journal.starts_by_job()[job] == 2 for job in lost))
    assert states()["running"] == 6


def test_a_slow_job_does_not_hold_up_those_that_were_to_follow_it(start, journal):
    start(options=workers(threads=4)).worker()
    default_task_backend.enqueue_all([(tasks.limited, ["a", 0.001], {})] * 200)
    slow = tasks.limited.enqueue("a", 3)
    default_task_backend.enqueue_all([(tasks.limited, ["a", 0.001], {})] * 50)

    eventually(lambda: states().get("succeeded") == 251)

    assert journal.ends()[-1].job == str(slow.id)
    assert most_inside(journal, {})["a"] == LIMIT


def test_a_runtime_that_drains_works_off_what_waits_for_a_slot(start, journal):
    enqueue(60, seconds=0.001)

    runtime = start("--drain", options=workers(threads=4))

    assert runtime.wait(60) == 0
    assert states() == {"succeeded": 60}


@pytest.mark.parametrize("mode", ["fork", "async"])
def test_what_waits_when_a_runtime_stops_is_there_for_the_next(start, journal, mode):
    enqueue(40, seconds=0.05)
    options = {**workers(threads=8), "mode": mode}
    first = start(options=options)
    eventually(lambda: len(journal.lines("end")) >= 6)

    assert first.stop() == 0
    assert "running" not in states()
    start(options=options)

    eventually(lambda: states() == {"succeeded": 40})
    assert set(journal.starts_by_job().values()) == {1}
    assert most_inside(journal, {}) == dict.fromkeys(KEYS, LIMIT)
