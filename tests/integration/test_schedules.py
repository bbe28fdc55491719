"""
Schedules over real processes: whoever fires, each due time fires once.

``WINDLASS_TEST_SCHEDULE_SECONDS`` says for how long the schedulers are killed.
"""

import os
import random
import signal
import time
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from tests.integration.runtime import is_running, kill, once_in_all
from tests.waiting import eventually, never
from windlass import api, firing
from windlass.models import Job, Node, Schedule, ScheduleMark

SECONDS = float(os.environ.get("WINDLASS_TEST_SCHEDULE_SECONDS", "20"))
WORK = "tests.integration.project.tasks.work"
EACH_SECOND = {
    "recurring": {
        "tick": {"task_path": WORK, "schedule": "every 1s", "kwargs": {"label": "tick"}}
    }
}

# What every dispatcher runs.
SERVICES = ["janitor", "limiter", "pruner", "processes", "workflows"]


def due_times():
    return [firing.aware(mark.due_at) for mark in ScheduleMark.objects.order_by("pk")]


def dispatchers(runtimes):
    return [node.pid for each in runtimes for node in each.nodes(Node.Kind.DISPATCHER)]


@once_in_all
@pytest.mark.timeout(SECONDS + 100)
def test_each_second_fires_once_while_schedulers_are_killed(start):
    def another():
        return start("--only-dispatch", options=EACH_SECOND)

    runtimes = [another() for _each in range(5)]
    eventually(lambda: len(dispatchers(runtimes)) == 5)
    eventually(due_times)
    chance, until, killed = random.Random(4), time.monotonic() + SECONDS, 0

    while time.monotonic() < until:
        victim = chance.choice(runtimes)
        alone = [pid for pid in dispatchers([victim]) if is_running(pid)]
        if alone and chance.random() < 0.7:
            kill(alone[0])
        else:
            # Its supervisor too: one that has lost many waits before the next.
            victim.kill()
            runtimes[runtimes.index(victim)] = another()
        killed += 1
        rest = time.monotonic() + chance.uniform(0.2, 1.5)
        eventually(lambda rest=rest: time.monotonic() > rest)

    found = sorted(due_times())
    made = [
        datetime.fromisoformat(job.metadata["schedule"]["due_at"])
        for job in Job.objects.order_by("run_after")
        if job.metadata["schedule"]["due_at"] <= found[-1].isoformat()
    ]
    assert killed > SECONDS / 3, killed
    assert (found[-1] - found[0]).total_seconds() > SECONDS - 5
    gaps = {str(b - a) for a, b in pairwise(found)} - {"0:00:01"}
    assert not gaps, gaps
    assert sorted(made) == [moment for moment in found if moment in set(made)]
    assert len(made) == len(set(made)) == len(found)


def test_a_schedule_of_the_settings_runs_and_ends_with_its_entry(start, journal):
    runtime = start(options=EACH_SECOND)
    eventually(lambda: len(journal.ends()) >= 2, message=runtime.said)
    assert set(journal.labels()) == {"tick"}
    (dispatcher,) = Node.objects.filter(kind=Node.Kind.DISPATCHER)
    assert dispatcher.details["services"] == [*SERVICES, "scheduler"]
    assert runtime.stop() == 0
    stopped = max(due_times())

    other = start()
    eventually(lambda: not Schedule.objects.exists(), message=other.said)

    assert max(due_times()) == stopped


def test_a_dynamic_schedule_fires_soon_after_it_was_made(start, journal):
    start(options={"scheduler": {"polling_interval": 0.2}})
    eventually(lambda: Node.objects.filter(kind=Node.Kind.DISPATCHER).exists())

    api.schedule_recurring_task(key="soon", task_path=WORK, schedule=timedelta(0, 1))

    eventually(lambda: len(journal.ends()) >= 2)


@once_in_all
@pytest.mark.parametrize(
    ("flags", "env"),
    [(["--skip-recurring"], {}), ([], {"WINDLASS_SKIP_RECURRING": "yes"})],
)
def test_a_runtime_can_leave_schedules_to_others(start, flags, env):
    start("--only-dispatch", *flags, options=EACH_SECOND, **env)
    (node,) = eventually(lambda: Node.objects.filter(kind=Node.Kind.DISPATCHER))

    eventually(lambda: Node.objects.get(pk=node.pk).details.get("services"))
    assert Node.objects.get(pk=node.pk).details["services"] == SERVICES
    never(Schedule.objects.exists, during=1)


@once_in_all
def test_an_environment_that_says_neither_yes_nor_no_is_refused(start):
    runtime = start(WINDLASS_SKIP_RECURRING="perhaps")

    assert runtime.wait() == 2
    assert "WINDLASS_SKIP_RECURRING must be one of 1, true" in runtime.said()


@once_in_all
def test_what_was_missed_while_nothing_ran_fires_once(start):
    options = {
        "scheduler": {"polling_interval": 0.5},
        **EACH_SECOND,
    }
    runtime = start("--only-dispatch", options=options)
    eventually(due_times)
    assert runtime.stop(signal.SIGTERM) == 0
    before = max(due_times())
    eventually(lambda: time.time() > before.timestamp() + 4, message="the clock")

    again = start("--only-dispatch", options=options)

    after = eventually(lambda: [due for due in due_times() if due > before])
    assert min(after) >= before + timedelta(seconds=3)
    assert again.stop() == 0
