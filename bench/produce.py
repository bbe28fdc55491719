"""
The producer: a process of a user's project that enqueues, and times itself.

``python -m bench.produce OPERATION N OUT``; the answer is JSON in the file OUT.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import django

CHUNK = 10_000
WARM_UP = 20
LOOKS = 1_000
Answer = dict[str, Any]


def perform(operations: dict[str, Callable[[int], Answer]]) -> None:
    """Do the one that the command line names, and write its answer."""
    operation, n, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    django.setup()
    answer = operations[operation](n)
    with open(out, "w") as file:
        json.dump(answer, file)


def one_by_one(n: int) -> Answer:
    """Enqueue n jobs, each in a transaction of its own."""
    from bench.tasks import noop

    return timed(noop.enqueue, n)


def in_transaction(n: int) -> Answer:
    """Enqueue n jobs one by one inside one transaction, its commit included."""
    from django.db import transaction

    from bench.tasks import noop

    _warm_up(noop.enqueue)
    begun = time.perf_counter()
    with transaction.atomic():
        for number in range(n):
            noop.enqueue(number)
    return {"rate": n / (time.perf_counter() - begun)}


def all_at_once(n: int) -> Answer:
    """Enqueue n jobs in calls of 10,000; the median rate of the calls."""
    from bench.tasks import noop

    _warm_up(noop.enqueue)
    backend = noop.get_backend()
    rates = []
    for start in range(0, n, CHUNK):
        calls = [(noop, [number], {}) for number in range(start, min(n, start + CHUNK))]
        begun = time.perf_counter()
        backend.enqueue_all(calls)
        rates.append(len(calls) / (time.perf_counter() - begun))
    return {"rate": statistics.median(rates)}


def fill(n: int) -> Answer:
    """Enqueue n jobs that do nothing."""
    from bench.tasks import noop

    return _fill(noop, n)


def fill_coroutines(n: int) -> Answer:
    """Enqueue n jobs that wait."""
    from bench.tasks import pause

    return _fill(pause, n)


def fill_hot(n: int) -> Answer:
    """Enqueue n jobs of one key."""
    from bench.tasks import hot

    return _fill(hot, n)


def fill_keyed(n: int) -> Answer:
    """Enqueue n jobs of 10,000 keys in turns."""
    from bench.tasks import keyed

    return _fill(keyed, n)


def fill_scheduled(n: int) -> Answer:
    """Enqueue n jobs for next year."""
    from bench.tasks import noop

    return _fill(noop.using(run_after=timedelta(days=366)), n)


def fill_steps(n: int) -> Answer:
    """Create jobs that have n steps together, three each."""
    from windlass.models import Job

    for number in range(n // 3):
        Job.objects.create(name="three", workspace={"number": number})
    return {}


def waits(n: int) -> Answer:
    """Wait for n jobs, one after another; the time from each end to the return."""
    from bench.tasks import pause
    from windlass.api import wait_for_completion

    times = []
    for number in range(WARM_UP + n):
        job = wait_for_completion(pause.enqueue(number).id)
        returned = time.time()
        if job is None or job.finished_at is None:
            raise AssertionError(f"The wait for job {number} came to no end.")
        times.append(returned - job.finished_at.timestamp())
    return milliseconds(times[WARM_UP:])


def _fill(task: Any, n: int) -> Answer:
    backend = task.get_backend()
    for start in range(0, n, CHUNK):
        numbers = range(start, min(n, start + CHUNK))
        backend.enqueue_all([(task, [number], {}) for number in numbers])
    return {}


def paced(n: int) -> Answer:
    """Enqueue n jobs 25 to 75 ms apart; when each call began, by the wall clock."""
    from bench.tasks import noop

    _warm_up(noop.enqueue)
    gaps = random.Random(7)
    calls = []
    due = time.time() + 0.5
    for number in range(n):
        # Irregular, so that the pace cannot lock onto a polling interval.
        due += gaps.uniform(0.025, 0.075)
        time.sleep(max(0.0, due - time.time()))
        calls.append((number, time.time()))
        noop.enqueue(number)
    return {"calls": calls}


def poll_schedules(n: int) -> Answer:
    """Time the looks of a scheduler at n schedules of which none is due."""
    from windlass import conf
    from windlass.models import Schedule
    from windlass.runtime.scheduler import Scheduler

    scheduler = Scheduler(conf.options("default"))
    soon = scheduler.db.now() + timedelta(days=1)
    said = {"task_path": "bench.tasks.noop", "schedule": "@daily", "next_due_at": soon}
    policies = {"overlap": "allow", "missed": "latest", "is_static": False}
    Schedule.objects.bulk_create(
        [
            Schedule(backend_alias="default", key=f"{number}", **said, **policies)
            for number in range(n)
        ],
        batch_size=1000,
    )
    return timed(lambda _number: scheduler.tick(), LOOKS)


def timed(enqueue: Callable[[int], Any], n: int) -> Answer:
    """Time n calls together and each."""
    _warm_up(enqueue)
    clock = time.perf_counter
    times = [0.0] * n
    begun = clock()
    for number in range(n):
        before = clock()
        enqueue(number)
        times[number] = clock() - before
    return {"rate": n / (clock() - begun), **milliseconds(times)}


def milliseconds(times: list[float]) -> dict[str, float]:
    """The median and the 99th percentile of times in seconds."""
    hundredths = statistics.quantiles(times, n=100)
    return {"p50": 1e3 * hundredths[49], "p99": 1e3 * hundredths[98]}


def _warm_up(enqueue: Callable[[int], Any]) -> None:
    # The first connection and lazy imports are not what is measured.
    for number in range(WARM_UP):
        enqueue(-1 - number)


OPERATIONS: dict[str, Callable[[int], Answer]] = {
    "one-by-one": one_by_one,
    "in-transaction": in_transaction,
    "all-at-once": all_at_once,
    "fill": fill,
    "fill-coroutines": fill_coroutines,
    "fill-hot": fill_hot,
    "fill-keyed": fill_keyed,
    "fill-scheduled": fill_scheduled,
    "fill-steps": fill_steps,
    "waits": waits,
    "paced": paced,
    "poll-schedules": poll_schedules,
}

if __name__ == "__main__":
    perform(OPERATIONS)
