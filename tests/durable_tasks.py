"""Tasks with durable steps; what really happened is in ``happened``."""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from windlass import Snooze, task
from windlass.models import Queue

happened = []
# What a test changes about the code, as a deployment would.
code = {}


def charge(order, *, amount=1):
    """Take money, unless the test says that it cannot be had."""
    happened.append(f"charge {order}")
    if "charge fails" in code:
        raise ValueError("no money")
    return {"order": order, "amount": amount, "parts": (1, 2)}


def ship(order):
    happened.append(f"ship {order}")
    if "ship fails" in code:
        raise OSError("no ship")
    return f"parcel {order}"


async def ship_later(order):
    return ship(order)


def nothing():
    happened.append("nothing")


@task(takes_context=True, max_attempts=5, backoff=0)
def order(context, number):
    receipt = context.step("charge", charge, number, amount=2)
    parcel = context.step("ship", ship, number)
    return [receipt, parcel, context.step("nothing", nothing)]


@task(takes_context=True, max_attempts=5, backoff=0)
async def order_later(context, number):
    # Both to their ends: what is cut short by the other's error is not recorded.
    receipt, parcel = await asyncio.gather(
        context.astep("charge", charge, number),
        context.astep("ship", ship_later, number),
        return_exceptions=True,
    )
    for found in (receipt, parcel):
        if isinstance(found, BaseException):
            raise found
    return [receipt, parcel, await context.astep("nothing", nothing)]


@task(takes_context=True, max_attempts=3, backoff=0)
def loop(context, numbers):
    for number in numbers:
        context.step("charge", charge, number)
    return context.step("ship", ship, "all")


@task(takes_context=True, max_attempts=3, backoff=0)
def insist_within(context):
    """Try a step again and again in one attempt."""
    while True:
        try:
            return [context.step("charge", charge, 1), context.step("ship", ship, 1)]
        except ValueError:
            code.clear()


@task(takes_context=True, max_attempts=3, backoff=0)
def as_coded(context):
    """Do the steps that the test has written."""
    for name, function in code["steps"]:
        context.step(name, function, 1)
    if "fails" in code:
        raise ValueError("as coded")


@task(takes_context=True, max_attempts=3, backoff=0)
def fallback(context):
    """Do something else when a step fails, then fail once."""
    try:
        context.step("charge", charge, 1)
    except ValueError:
        context.step("ship", ship, 1)
    context.step("nothing", nothing)
    if "fails" in code:
        raise ValueError("once more")


@task(takes_context=True, max_attempts=3, backoff=0, version=2)
def versioned(context):
    context.step("charge", charge, 1)


@task(takes_context=True, max_attempts=3, backoff=0)
def swallow(context):
    """Let nothing out that could be caught."""
    try:
        context.step("charge", charge, 1)
        context.sleep(60)
    except BaseException:  # noqa: BLE001 - it is what the test is about
        happened.append("swallowed")
    return "went on"


@task(takes_context=True)
def misuse(context, how):
    if how == "in a transaction":
        with transaction.atomic():
            context.step("charge", charge, 1)
    elif how == "no name":
        context.step("", charge, 1)
    elif how == "long name":
        context.sleep(1, name="x" * 256)
    elif how == "coroutine":
        context.step("ship", ship_later, 1)
    elif how == "no json":
        context.step("set", set)
    elif how == "naive":
        context.sleep_until(datetime(2030, 1, 1))


@task(takes_context=True, atomic=True)
def misuse_atomic(context):
    context.step("charge", charge, 1)


def note_in_database(name):
    happened.append(name)
    Queue.objects.create(backend_alias="default", name=name)
    if "note fails" in code:
        raise ValueError("after the write")
    if "before the record" in code:
        code["before the record"]()


def write():
    happened.append("write")
    if "commit fails" in code:
        # Found out at the commit, where the database checks its keys there.
        User.groups.through.objects.create(user_id=10**9, group_id=10**9)


@task(takes_context=True)
def write_again(context):
    """Try again, in the same attempt, what could not be committed."""
    try:
        context.atomic_step("write", write)
    except IntegrityError:
        code.clear()
        context.atomic_step("write", write)


@task(takes_context=True, max_attempts=3, backoff=0)
def note(context):
    context.atomic_step("note", note_in_database, "noted")


@task(takes_context=True)
def note_plainly(context):
    context.step("note", note_in_database, "noted")


@task(takes_context=True, max_attempts=3, backoff=0)
async def note_later(context):
    await context.aatomic_step("note", note_in_database, "noted")


@task(takes_context=True, expires=60)
def sleepy(context, seconds):
    context.step("charge", charge, 1)
    context.sleep(seconds)
    context.step("ship", ship, 1)
    context.sleep(timedelta(seconds=0))
    context.sleep_until(datetime(2001, 1, 1, tzinfo=UTC), name="past")
    return context.attempt


@task(takes_context=True)
async def sleepy_later(context, seconds):
    await context.astep("charge", charge, 1)
    await context.asleep(seconds)
    await context.asleep_until(datetime(2001, 1, 1, tzinfo=UTC))
    return await context.astep("ship", partial(ship_later, 1))


@task(takes_context=True, max_attempts=2, backoff=600)
def wait(context, timeout=None, count=1):
    found = [context.wait_for("paid", timeout, "too late") for _ in range(count)]
    happened.append("went on")
    if "fails" in code:
        raise ValueError("after the wait")
    return found


@task(takes_context=True)
async def wait_later(context, timeout=None):
    return await context.await_for("paid", timeout=timeout, default="too late")


@task(takes_context=True)
def look_then(context):
    """Wait for an event that comes after the look for it."""
    try:
        return context.wait_for("paid")
    finally:
        code.pop("after the look", nothing)()


@task(takes_context=True)
def snooze_first(context):
    context.step("charge", charge, 1)
    if "snoozes" in code:
        raise Snooze(0)
    return "done"


@task(takes_context=True, max_attempts=2, backoff=0)
def converse(context, job):
    """Take one word; as one step of a job, or several."""
    context.step("charge", charge, len(job.workspace))
    job.workspace[str(len(job.workspace))] = context.wait_for("word")


def on_failure(job, error):
    happened.append("failed")
