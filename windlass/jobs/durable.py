"""
Durable steps: what a task does once, however often its attempts are repeated.

An attempt asks at each step what its job remembers of it: a result is given back and
the function is not called, else it is called and its result recorded. A sleep and a
wait end the attempt; the job is called again later, replays, and goes on behind them.

Steps are known by their names: the first call of a name in an attempt is number 0 of
that name, the next number 1. New steps, wherever they are, just run.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from functools import partial
from inspect import isawaitable, iscoroutinefunction
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import transaction
from django.utils.timezone import is_naive

from windlass import db
from windlass.db import memos
from windlass.db.memos import Kind
from windlass.exceptions import StepError
from windlass.jobs.arguments import dump_value
from windlass.jobs.recall import Reached, Recall, path_of
from windlass.jobs.retries import Suspended, seconds

# A job that waits looks for itself this often, should its sender have died between
# storing an event and waking it. In seconds.
LOOK_EVERY = 3600.0


def step(recall: Recall, name: str, call: partial[Any], *, atomic: bool = False) -> Any:
    """Give back what a step gave, or call it and remember that."""
    if iscoroutinefunction(call.func):
        raise StepError(
            f"Job {recall.job.id}: the function of the durable step {name!r} is a "
            "coroutine function. In a coroutine task, write: await context.astep(...)."
        )
    reached = recall.reach(Kind.STEP, name, path_of(call.func))
    if reached.memo is not None:
        return reached.memo.result
    together: AbstractContextManager[Any] = nullcontext()
    if atomic and recall.database:
        together = transaction.atomic(using=recall.database)
    with recall.trying(reached), together:
        return _keep(recall, reached, call())


async def astep(recall: Recall, name: str, call: partial[Any]) -> Any:
    """See ``step``; coroutine functions are awaited, others run in a thread."""
    reach = partial(recall.reach, Kind.STEP, name, path_of(call.func))
    reached = await sync_to_async(reach)()
    if reached.memo is not None:
        return reached.memo.result
    with recall.trying(reached):
        is_async = iscoroutinefunction(call.func)
        value = call() if is_async else await sync_to_async(call)()
        if isawaitable(value):
            value = await value
        return await sync_to_async(_keep)(recall, reached, value)


def _keep(recall: Recall, reached: Reached, value: Any) -> Any:
    text = dump_value(value, f"the result of the durable step {reached.key[1]!r}")
    return recall.record(reached, None if value is None else text)


# Sleeping and waiting


def sleep(recall: Recall, delay: float | timedelta, name: str) -> None:
    """Let the job sleep for so long, counted from when it first came here."""
    duration = seconds(delay, "sleep(delay)")
    _sleep(recall, lambda now: now + duration, name)


def sleep_until(recall: Recall, moment: datetime, name: str) -> None:
    """Let the job sleep until a moment, whatever later attempts say."""
    if not isinstance(moment, datetime) or is_naive(moment) == settings.USE_TZ:
        raise ValueError(f"sleep_until() takes an aware datetime, not {moment!r}.")
    _sleep(recall, lambda now: moment.timestamp(), name)


def _sleep(recall: Recall, until: Callable[[float], float], name: str) -> None:
    reached = recall.reach(Kind.SLEEP, name)
    if not recall.database:
        # In a test without a database all time passes at once.
        return
    now = _now(recall)
    if reached.memo is None:
        end: float = recall.record(reached, json.dumps(until(now)))
    else:
        end = reached.memo.result
    if end > now:
        recall.forget_expiry()
        recall.end(Suspended(end - now))


def wait_for(
    recall: Recall, name: str, timeout: float | timedelta | None, default: Any
) -> Any:
    """Give back the payload of an event, or let the job wait for it."""
    patience = None if timeout is None else seconds(timeout, "wait_for(timeout)")
    reached = recall.reach(Kind.EVENT, name)
    if reached.memo is not None:
        event = reached.memo.result
        return default if event is None else event["payload"]
    taken = recall.taken.setdefault(name, [])
    if recall.database:
        own = db.dialect(recall.database)
        found = memos.next_event(own, recall.job.id, name, taken)
        if found is not None:
            text = dump_value(found[1], "the payload")
            text = f'{{"id": {found[0]}, "payload": {text}}}'
            payload = recall.record(reached, text)["payload"]
            taken.append(found[0])
            return payload
    now = _now(recall)
    end = _wait_until(recall, reached, None if patience is None else now + patience)
    if end is not None and (end <= now or not recall.database):
        recall.record(reached, None)
        return default
    left = LOOK_EVERY if end is None else min(end - now, LOOK_EVERY)
    recall.forget_expiry()
    recall.end(Suspended(left, (name, len(taken))))


def _wait_until(recall: Recall, reached: Reached, end: float | None) -> float | None:
    # Counted from when the wait began, in whichever attempt that was.
    key = (Kind.WAIT.value, *reached.key[1:])
    begun = recall.memories().get(key)
    if begun is not None:
        until: float | None = begun.result
        return until
    wait = Reached(key, reached.place, "", None)
    recall.record(wait, None if end is None else json.dumps(end))
    return end


def _now(recall: Recall) -> float:
    # By the clock that will wake the job.
    if not recall.database:
        return 0.0
    return db.dialect(recall.database).now().timestamp()
