"""Tasks of workflows, which tell what they were given."""

import json
import os
import time
import zlib

from windlass import concurrency, task, unique


@task
def give(value=None):
    return value


@task
def add(*numbers):
    return sum(numbers)


@task
def total(numbers):
    return sum(numbers)


@task
def told(given=None):
    return given


@task
def fail(*given):
    raise ValueError("on purpose")


@task(max_attempts=3, backoff=0, takes_context=True)
def fail_first(context, times, value=None):
    if context.attempt <= times:
        raise ValueError("not yet")
    return value


@task
async def double(number):
    return 2 * number


@task(takes_context=True)
def note(context, **changes):
    context.workflow.update(**changes)
    return context.workflow.workspace


@task(takes_context=True)
def count(context, key):
    with context.workflow.lock() as workspace:
        workspace[key] = workspace.get(key, 0) + 1


@task(takes_context=True)
def outside(context):
    return context.workflow is None


@concurrency(key="flow:{number}", limit=1)
@task
def limited(number):
    return number


@unique(key="only", on_conflict="raise")
@task
def only():
    return "only"


@unique(key="one of {number}", on_conflict="discard")
@task
def one_of(number):
    return number


@task(expires=60)
def expiring():
    return "in time"


class OnPurpose(Exception):
    """An error after which nobody tries again."""


@task(takes_context=True, max_attempts=100, backoff=0, give_up_on=OnPurpose)
def work(context, *given, fails=False, misses=0):
    """Fail for good, or so many times; or give back a number made of all it got."""
    if context.attempt <= misses:
        raise ValueError("not yet")
    if fails:
        raise OnPurpose
    return digest(given)


def digest(given):
    return zlib.crc32(json.dumps(given).encode())


# Whether fail_if_told is to fail, and how often one_more was called.
FAILS, CALLS = False, []


@task
def fail_if_told(value=None):
    if FAILS:
        raise ValueError("as I was told")
    return value


@task
def one_more(value):
    CALLS.append(value)
    return len(CALLS)


@task(takes_context=True)
def spoil(context):
    with context.workflow.lock() as workspace:
        workspace["bad"] = object()


@task(takes_context=True)
def endless(context):
    while not context.should_stop():
        time.sleep(0.01)


@task(executor="process", takes_context=True)
def apart(context, number):
    context.workflow.update(pid=os.getpid())
    return number + 1


@task(takes_context=True)
def stepping(context):
    return context.step("count", one_more.func, None)
