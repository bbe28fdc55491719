"""
Waiting for jobs to end.

Who waits is told by the watcher of its process. It also looks for itself when it
begins and when its time is over, by its own connection, which may see more than others
do.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.db import connections

from windlass import conf
from windlass.models import Job
from windlass.models.view import parse_id
from windlass.tasks_api import DEFAULT_TASK_BACKEND_ALIAS as DEFAULT
from windlass.watcher import watched

T = TypeVar("T")


def wait_for_completion(
    task_id: object, timeout: float | None = 300, *, backend_alias: str = DEFAULT
) -> Job | None:
    """
    Wait until a job has ended, and give it back; None when ``timeout`` is over.

    An end is final: succeeded, failed, cancelled or discarded. A job that is to be
    tried again has not ended. ``timeout`` is in seconds, 0 looks once, None waits for
    ever. None is also given back if the job is deleted meanwhile. Inside of a
    transaction that has not committed the job, nobody can run it.

    Raises Job.DoesNotExist for an unknown id, ValueError for a negative timeout.
    """
    id = _id(task_id, timeout, backend_alias)
    apart = _apart if _is_on_loop() else _here
    look = partial(_look, id, backend_alias)
    ended = threading.Event()
    found: list[Job | None] = []

    def told(job: Job | None) -> None:
        found.append(job)
        ended.set()

    deadline = None if timeout is None else time.monotonic() + timeout
    with watched(id, backend_alias, told) if timeout != 0 else nullcontext():
        job, has_ended = apart(look)
        if has_ended or timeout == 0:
            return job if has_ended else None
        if ended.wait(None if deadline is None else deadline - time.monotonic()):
            return found[0]
    job, has_ended = apart(partial(look, missing_ok=True))
    return job if has_ended else None


async def await_for_completion(
    task_id: object, timeout: float | None = 300, *, backend_alias: str = DEFAULT
) -> Job | None:
    """Wait as ``wait_for_completion`` does, without a thread for each who waits."""
    id = _id(task_id, timeout, backend_alias)
    look = sync_to_async(partial(_look, id, backend_alias))
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Job | None] = loop.create_future()

    def finish(job: Job | None) -> None:
        if not ended.done():
            ended.set_result(job)

    def told(job: Job | None) -> None:
        # The loop may have been closed by whoever gave up.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(finish, job)

    deadline = None if timeout is None else loop.time() + timeout
    with watched(id, backend_alias, told) if timeout != 0 else nullcontext():
        job, has_ended = await look()
        if has_ended or timeout == 0:
            return job if has_ended else None
        left = None if deadline is None else deadline - loop.time()
        done, _pending = await asyncio.wait([ended], timeout=left)
        if done:
            return ended.result()
    job, has_ended = await look(missing_ok=True)
    return job if has_ended else None


def _id(task_id: object, timeout: float | None, backend_alias: str) -> uuid.UUID:
    if timeout is not None and not timeout >= 0:
        raise ValueError(f"timeout must be seconds from 0 on, not {timeout!r}.")
    id = parse_id(task_id)
    if id is None:
        raise Job.DoesNotExist(f"The backend {backend_alias!r} has no job {task_id!r}.")
    return id


def _look(
    id: uuid.UUID, backend_alias: str, *, missing_ok: bool = False
) -> tuple[Job | None, bool]:
    """A job by the calling thread's connection, and whether it has ended."""
    database = conf.options(backend_alias).database_alias
    jobs = Job.objects.using(database).filter(backend_alias=backend_alias)
    job = jobs.filter(pk=id).first()
    if job is None and not missing_ok:
        raise Job.DoesNotExist(f"The backend {backend_alias!r} has no job {id}.")
    return job, job is not None and job.finished_at is not None


def _here(function: Callable[[], T]) -> T:
    return function()


def _apart(function: Callable[[], T]) -> T:
    """Call a function in a thread, because Django lets no event loop ask a database."""
    found: list[Any] = []

    def call() -> None:
        try:
            found.append((function(), None))
        except BaseException as error:  # noqa: BLE001 - it is raised where it belongs
            found.append((None, error))
        finally:
            connections.close_all()

    thread = threading.Thread(target=call, name="windlass-looks")
    thread.start()
    thread.join()
    value, error = found[0]
    if error is not None:
        raise error
    result: T = value
    return result


def _is_on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
