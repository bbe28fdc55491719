"""Tasks that run too long, and do not like to end."""

import asyncio
import os
import re
import signal
import subprocess
import time

from django.db import connection

from tests.integration.project.journal import note
from windlass import task

LIMIT = 0.5


def _endless_in_c():
    """Compute for years in one call that never lets go of Python's lock."""
    re.match(r"(a+)+$", "a" * 60 + "b")


@task(takes_context=True, timeout=LIMIT)
def spin(context):
    """Python code, which an exception ends."""
    note("start", context)
    while True:
        pass


@task(takes_context=True, timeout=LIMIT)
def sleep(context, seconds=60):
    """Blocked in C, which no exception reaches."""
    note("start", context)
    time.sleep(seconds)


@task(takes_context=True, timeout=LIMIT)
def swallow(context):
    """Whatever is raised in it, it goes on."""
    note("start", context)
    while True:
        try:
            time.sleep(0.01)
        except BaseException:  # noqa: BLE001 - that is what it is about
            note("swallowed", context)


@task(takes_context=True, timeout=LIMIT)
def clean_up(context):
    """Swallow the stop once, and end well."""
    note("start", context)
    try:
        while True:
            pass
    except TimeoutError:
        note("end", context)
    return "done"


@task(takes_context=True, timeout=LIMIT)
def compute(context):
    """Hold Python's lock for years."""
    note("start", context)
    _endless_in_c()


@task(takes_context=True, timeout=LIMIT, max_attempts=3, backoff=0.01)
def spin_once(context):
    """Run too long the first time only."""
    note("start", context)
    while context.attempt == 1:
        pass
    return context.attempt


@task(takes_context=True, timeout=LIMIT)
async def swim(context):
    note("start", context)
    await asyncio.sleep(60)


@task(takes_context=True, timeout=LIMIT)
async def block_loop(context):
    """A coroutine that lets no other run."""
    note("start", context)
    time.sleep(60)


@task(takes_context=True, timeout=LIMIT, executor="process")
def process(context):
    note("start", context)
    try:
        time.sleep(60)
    finally:
        note("end", context)


@task(takes_context=True, timeout=LIMIT, executor="process")
def stubborn_process(context):
    """Ignore SIGTERM, hold the lock in C, and have a child that does the same."""
    note("start", context)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "1000"], preexec_fn=_ignore_sigterm)
    note("child", context, str(child.pid))
    _endless_in_c()


def _ignore_sigterm():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


# Without limits, for whoever cancels them


@task(takes_context=True)
def endless(context):
    note("start", context)
    while True:
        time.sleep(0.01)


@task(takes_context=True, max_attempts=5)
async def endless_swim(context):
    note("start", context)
    await asyncio.sleep(1000)


@task(takes_context=True, executor="process", max_attempts=5)
def endless_process(context):
    note("start", context)
    time.sleep(1000)


@task(takes_context=True)
def polite(context):
    """Look whether it should stop."""
    note("start", context)
    while not context.should_stop():
        time.sleep(0.01)
    note("end", context)
    return context.remaining()


@task(takes_context=True, executor="process")
def polite_process(context):
    note("start", context)
    while not context.should_stop():
        time.sleep(0.01)
    note("end", context)


# Processes of their own


@task(takes_context=True, executor="process")
def add(context, a, b):
    note("start", context)
    context.progress(1, 2, "half")
    note("end", context)
    return {"sum": a + b, "group": os.getpgrp(), "parent": os.getppid()}


@task(takes_context=True, executor="process")
async def add_later(context, a, b):
    await asyncio.sleep(0)
    return a + b


@task(executor="process", max_attempts=2, backoff=0.01, takes_context=True)
def fail_once(context):
    if context.attempt == 1:
        raise ValueError("once")
    return "well"


@task(takes_context=True, executor="process")
def leave(context, status):
    note("start", context)
    os._exit(status)


@task(takes_context=True, executor="process", max_attempts=9)
def die(context):
    note("start", context)
    os.kill(os.getpid(), signal.SIGKILL)


@task(executor="process")
def eat(size):
    """Use memory, and time."""
    taken = bytearray(size)
    end = time.process_time() + 0.05
    while time.process_time() < end:
        taken[0] = 1
    return len(taken)


@task(takes_context=True)
def fork(context):
    """Fork, and let both come back."""
    note("start", context)
    return os.fork() and "parent"


@task(takes_context=True, executor="process")
def fork_in_process(context):
    note("start", context)
    return os.fork() and "parent"


@task(takes_context=True)
def out_of_memory(context):
    note("start", context)
    return bytearray(1 << 60)


# Effects in the database


@task(takes_context=True, atomic=True, max_attempts=5, backoff=0.01)
def write(context, seconds=0.0):
    """Have an effect, and be killed perhaps before it is certain."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO effects (job) VALUES (%s)", [context.task_result.id]
        )
    note("start", context)
    time.sleep(seconds)
    note("end", context)


@task(takes_context=True, atomic=True, executor="process")
def write_in_process(context):
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO effects (job) VALUES (%s)", [context.task_result.id]
        )


@task(takes_context=True, atomic=True)
def write_and_fail(context):
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO effects (job) VALUES (%s)", [context.task_result.id]
        )
    raise ValueError("after the effect")


@task(takes_context=True, executor="process", expires=0.1)
def too_late(context):
    note("start", context)


@task(takes_context=True, timeout=LIMIT)
def tidy_up(context, seconds):
    """Take some time to leave things in order."""
    note("start", context)
    try:
        _spin()
    finally:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.01)
        note("end", context)


def _spin():
    while True:
        time.sleep(0.001)


@task(takes_context=True)
def hold_on(context, path):
    """Run until a file is there, whatever is raised in it."""
    note("start", context)
    while not os.path.exists(path):
        try:
            time.sleep(0.01)
        except BaseException:  # noqa: BLE001 - that is what it is about
            continue
