"""Tasks that do what tasks of real projects do, and note when."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from django.db import connection, transaction

from tests.integration.project.journal import note
from windlass import concurrency, rate_limit, task


def _work(context, seconds, label):
    note("start", context, label)
    if seconds:
        time.sleep(seconds)
    note("end", context, label)


@task(takes_context=True)
def work(context, seconds=0.0, label=""):
    _work(context, seconds, label)


@task(takes_context=True, max_attempts=5)
@rate_limit(key="rated", rate="6/2s")
def rated(context, label=""):
    _work(context, 0.0, label)


@task(takes_context=True, max_attempts=50, backoff=0.05)
@concurrency(key="{label}", limit=2)
def limited(context, label, seconds=0.05):
    _work(context, seconds, label)


@task(takes_context=True, fair_by="{label}")
def fair(context, label, seconds=0.005):
    _work(context, seconds, label)


@task(takes_context=True, max_attempts=5, backoff=0.05)
def work_again(context, seconds=0.0, label=""):
    _work(context, seconds, label)


def fail_always():
    """A plain function, for who calls it by its name."""
    raise ValueError("as always")


@task(takes_context=True, max_attempts=2, backoff=0.05)
def fail_first(context):
    """Raise in the first attempt alone."""
    note("start", context)
    if context.attempt == 1:
        raise ValueError("not yet")


@task(takes_context=True)
async def swim(context, seconds=0.0, label=""):
    note("start", context, label)
    await asyncio.sleep(seconds)
    note("end", context, label)


def _wait_for(context, path, label):
    note("start", context, label)
    gate = Path(path)
    while not gate.exists():
        time.sleep(0.01)
    note("end", context, label)


@task(takes_context=True)
def wait_for(context, path, label=""):
    """Run until a file is there."""
    _wait_for(context, path, label)


@task(takes_context=True, max_attempts=5)
def wait_for_again(context, path, label=""):
    """Run until a file is there, as often as it takes."""
    _wait_for(context, path, label)


@task(takes_context=True)
async def swim_until(context, path, label=""):
    note("start", context, label)
    gate = Path(path)
    while not gate.exists():
        await asyncio.sleep(0.01)
    note("end", context, label)


@task(takes_context=True)
def enqueue_more(context, count, depth=1):
    """Enqueue follow-ups, each of which may do the same."""
    note("start", context)
    for _ in range(count):
        if depth > 1:
            enqueue_more.enqueue(count, depth - 1)
        else:
            work.enqueue()
    note("end", context)


@task(executor="process")
def enqueue_in_process():
    """Enqueue one job from a process of its own."""
    work.enqueue()


IDLE = {
    "postgresql": "SHOW idle_in_transaction_session_timeout",
    "mysql": "SELECT CAST(@@SESSION.idle_transaction_timeout AS CHAR)",
}


@task
def longest_idle():
    """How long a transaction of this session may be idle."""
    with connection.cursor() as cursor:
        cursor.execute(IDLE[connection.vendor])
        return cursor.fetchone()[0]


@task(executor="process")
def longest_idle_in_process():
    """The same, in a process of its own."""
    return longest_idle.func()


@task(takes_context=True)
def system_exit(context):
    note("start", context)
    sys.exit(3)


@task(takes_context=True)
def keyboard_interrupt(context):
    note("start", context)
    raise KeyboardInterrupt


@task(takes_context=True)
def recurse(context):
    note("start", context)

    def again():
        return again() + 1

    return again()


@task(takes_context=True)
async def swim_into_system_exit(context):
    """Raise it in a coroutine of the task's own making, which asyncio lets through."""
    note("start", context)

    async def leave():
        sys.exit(3)

    await asyncio.create_task(leave())


@task(takes_context=True)
def exit_process(context, status=0):
    note("start", context)
    os._exit(status)


@task(takes_context=True, max_attempts=2)
def exit_process_once(context, status=0):
    note("start", context)
    if context.attempt == 1:
        os._exit(status)


@task(takes_context=True, max_attempts=3)
def always_kill(context):
    """Take the process along each time."""
    note("start", context)
    os.kill(os.getpid(), signal.SIGKILL)


@task(takes_context=True)
def break_connection(context):
    """Close the database connection under Django's feet."""
    note("start", context)
    connection.ensure_connection()
    connection.connection.close()


@task(takes_context=True)
def leave_block_open(context):
    """Begin a transaction that nobody ends."""
    note("start", context)
    transaction.atomic().__enter__()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


@task(takes_context=True)
def leave_transaction_open(context):
    """Begin a transaction that not even Django knows of."""
    note("start", context)
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")


@task(takes_context=True)
def use_connection(context):
    note("start", context)
    assert not connection.in_atomic_block
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    note("end", context)


@task(takes_context=True)
async def hog(context, path):
    """Keep the event loop to itself until a file is there."""
    note("start", context)
    gate = Path(path)
    while not gate.exists():
        time.sleep(0.01)
    note("end", context)


# Durable steps


@task(takes_context=True, max_attempts=5, backoff=0.05)
def two_steps(context, path):
    """Note one thing, then run until a file is there."""
    context.step("first", note, "step", context)
    context.step("second", _wait_for, context, path, "")


@task(takes_context=True)
def nap(context, seconds):
    context.step("before", note, "step", context)
    context.sleep(seconds)
    context.step("after", note, "end", context)


def _converse(context, words):
    context.step("before", note, "step", context)
    return [context.wait_for("word") for _ in range(words)]


@task(takes_context=True)
def converse(context, words):
    return _converse(context, words)


@task(takes_context=True, executor="process")
def converse_apart(context, words):
    return _converse(context, words)


@task(takes_context=True)
async def converse_later(context, words):
    await context.astep("before", note, "step", context)
    return [await context.await_for("word") for _ in range(words)]
