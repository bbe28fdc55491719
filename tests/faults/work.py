"""The work a storm is made of: what each does, and what may be expected of it."""

import asyncio
import sys
import time
from os import getpid, kill
from signal import SIGKILL

from django.db import connection

from tests.faults.kinds import kind
from tests.integration.project.journal import note
from windlass import Snooze, api, exponential

# A task that lives longer says so this often, so that it is seen to go on.
BEAT = 0.25
# Where tasks that use the database leave a row; made by the storm.
EFFECTS = "fault_effect"
TIMEOUT = 0.5
# How long a job runs that waits to be cancelled.
PATIENT = 20.0


class Stumble(Exception):
    """What tasks raise that fail on purpose."""


STUMBLE = (f"{__name__}.Stumble",)


def seconds(least, most):
    """Arguments: how long to run."""
    return lambda random: [round(random.uniform(least, most), 3)]


def nothing(random):
    """No arguments."""
    return []


def _run(context, seconds, label=""):
    note("start", context, label)
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, BEAT))
        if left > BEAT:
            note("beat", context)
    note("end", context)


async def _swim(context, seconds, label=""):
    note("start", context, label)
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        await asyncio.sleep(min(left, BEAT))
        if left > BEAT:
            note("beat", context)
    note("end", context)


AGAIN = {"max_attempts": 5, "backoff": 0.05}


@kind(6, seconds(0, 0.1))
def short_once(context, seconds):
    _run(context, seconds)


@kind(6, seconds(0, 0.1), policy=AGAIN)
def short_again(context, seconds):
    _run(context, seconds)


@kind(3, seconds(0, 0.3))
async def swim_once(context, seconds):
    await _swim(context, seconds)


@kind(3, seconds(0, 0.3), policy=AGAIN)
async def swim_again(context, seconds):
    await _swim(context, seconds)


@kind(0.3, seconds(0.5, 4))
def long_once(context, seconds):
    _run(context, seconds)


@kind(0.3, seconds(0.5, 4), policy=AGAIN)
def long_again(context, seconds):
    _run(context, seconds)


@kind(0.3, seconds(0.5, 4), policy=AGAIN)
async def long_swim(context, seconds):
    await _swim(context, seconds)


# With failures of their own


@kind(
    1,
    lambda random: [random.randint(2, 3)],
    policy={"max_attempts": 9, "backoff": exponential(first=0.05, ceiling=0.5)},
    errors=STUMBLE,
)
def stumble(context, until):
    """Fail until the attempt of that number."""
    note("start", context)
    if context.attempt < until:
        note("fail", context)
        raise Stumble
    note("end", context)


@kind(
    0.5,
    nothing,
    policy={"max_attempts": 3, "backoff": 0.1},
    ends="failed",
    reason="error",
    errors=STUMBLE,
)
def hopeless(context):
    note("start", context)
    note("fail", context)
    raise Stumble


@kind(0.1, nothing, ends="failed", reason="error", errors=("builtins.SystemExit",))
def leave(context):
    note("start", context)
    note("fail", context)
    sys.exit(3)


@kind(0.01, nothing, policy=AGAIN)
def die(context):
    """Take the process along, once."""
    note("start", context)
    if context.attempt == 1:
        note("die", context)
        kill(getpid(), SIGKILL)
    note("end", context)


@kind(0.5, lambda random: [time.monotonic() + random.uniform(0, 2)])
def doze(context, until):
    """Put the job off until a moment of the machine's clock that nobody sets."""
    note("start", context)
    if time.monotonic() < until:
        note("snooze", context)
        raise Snooze(0.2)
    note("end", context)


@kind(0.5, seconds(0, 0.5), policy={**AGAIN, "on_lost": "fail"}, errors=STUMBLE)
def careful(context, seconds):
    """May fail and try again, and not be repeated when nobody knows how it ended."""
    note("start", context)
    time.sleep(seconds)
    if context.attempt == 1:
        note("fail", context)
        raise Stumble
    note("end", context)


@kind(0.3, seconds(0, 1), policy={"on_lost": "retry"})
def stubborn(context, seconds):
    """Has one attempt, and may be repeated when nobody knows how it ended."""
    _run(context, seconds)


# At most so many at a time


def key_and_seconds(keys, least, most):
    """Arguments: what the jobs are limited by, and how long to run."""
    return lambda random: [
        random.randrange(keys),
        round(random.uniform(least, most), 3),
    ]


@kind(2, key_and_seconds(2, 0, 0.05), limit=1)
def alone_once(context, key, seconds):
    _run(context, seconds, key)


@kind(2, key_and_seconds(3, 0, 0.1), policy=AGAIN, limit=2)
def in_pairs(context, key, seconds):
    _run(context, seconds, key)


@kind(1, key_and_seconds(3, 0, 0.1), policy=AGAIN, limit=2)
async def swim_in_pairs(context, key, seconds):
    await _swim(context, seconds, key)


# With the database


@kind(0.5, lambda random: [random.randint(1, 4)], policy=AGAIN, queries=True)
def spread(context, count):
    """Enqueue more."""
    note("start", context)
    for _ in range(count):
        leaf.enqueue(0.01, f"{context.task_result.id}/{context.attempt}")
    note("end", context)


@kind(0, nothing)
def leaf(context, seconds, parent):
    _run(context, seconds)


ATOMIC = {**AGAIN, "atomic": True}


@kind(1, seconds(0, 0.1), policy=ATOMIC, queries=True, atomic=True)
def atomic(context, seconds):
    note("start", context)
    _leave_a_row(context)
    time.sleep(seconds)
    note("end", context)


@kind(
    0.3,
    nothing,
    policy={**ATOMIC, "max_attempts": 2},
    queries=True,
    atomic=True,
    ends="failed",
    reason="error",
    errors=STUMBLE,
)
def atomic_in_vain(context):
    note("start", context)
    _leave_a_row(context)
    note("fail", context)
    raise Stumble


def _leave_a_row(context):
    with connection.cursor() as cursor:
        id = str(context.task_result.id)
        cursor.execute(f"INSERT INTO {EFFECTS} (job) VALUES (%s)", [id])


# In a process of their own, against the clock, and until somebody cancels them

PROCESS = {"executor": "process"}


@kind(0.3, seconds(0, 1), policy=PROCESS)
def process_once(context, seconds):
    _run(context, seconds)


@kind(0.3, seconds(0, 1), policy={**AGAIN, **PROCESS})
def process_again(context, seconds):
    _run(context, seconds)


LATE = {"ends": "failed", "reason": "timeout"}


@kind(0.1, seconds(3, 6), policy={"timeout": TIMEOUT}, **LATE)
def late(context, seconds):
    _run(context, seconds)


@kind(0.1, seconds(3, 6), policy={"timeout": TIMEOUT}, **LATE)
async def late_swim(context, seconds):
    await _swim(context, seconds)


@kind(0.1, seconds(3, 6), policy={"timeout": TIMEOUT, **PROCESS}, **LATE)
def late_process(context, seconds):
    _run(context, seconds)


@kind(0.02, seconds(8, 12), policy={"timeout": TIMEOUT}, **LATE)
def deaf(context, seconds):
    """Hear nothing, so that only the end of its process ends it."""
    note("start", context)
    note("deaf", context)
    time.sleep(seconds)
    note("end", context)


CAN_CANCEL = hasattr(api, "cancel_job")


@kind(0.1, seconds(PATIENT, PATIENT), where=CAN_CANCEL, cancels=True)
def patient(context, seconds):
    _run(context, seconds)


@kind(0.1, seconds(PATIENT, PATIENT), where=CAN_CANCEL, cancels=True)
async def patient_swim(context, seconds):
    await _swim(context, seconds)


@kind(0.1, seconds(PATIENT, PATIENT), policy=PROCESS, where=CAN_CANCEL, cancels=True)
def patient_process(context, seconds):
    _run(context, seconds)


@kind(0.3, seconds(0, 0.1), policy={**AGAIN, "expires": 1})
def perishable(context, seconds):
    _run(context, seconds)
