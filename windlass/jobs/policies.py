"""
What a task says about its jobs: checked at the door, and stored with each job.

Most of a policy is read from the code when it is needed, so a fix reaches the jobs
that wait. What belongs to the one job (its timeout, the moment it expires, what
follows when it is lost) is stored with it, as one small JSON object, or nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from inspect import iscoroutinefunction
from types import MappingProxyType
from typing import Any

from windlass.db import Claimed
from windlass.exceptions import RefusedTask
from windlass.jobs.arguments import dump_value
from windlass.jobs.retries import seconds
from windlass.models.jobs import Reason

ON_LOST = ("retry", "fail")
EXECUTORS = ("thread", "async", "process")
MAX_ATTEMPTS = 10_000
VERSION_LENGTH = 64
# Looks for no blanks around it: we wrote it, and to look takes longer than to read.
_decode = json.JSONDecoder().raw_decode
# The policy of a claimed job that is to be discarded because a limit is reached.
REFUSED = '{"refused": "limit"}'


def stored(task: Any, *, now: float) -> str | None:
    """What is kept with a job of this task, as JSON text; ``now`` in epoch seconds."""
    said: dict[str, Any] = {}
    if getattr(task, "on_lost", None) is not None:
        said["on_lost"] = task.on_lost
    if getattr(task, "timeout", None) is not None:
        said["timeout"] = seconds(task.timeout, "timeout")
    if getattr(task, "expires", None) is not None:
        due = now if task.run_after is None else max(now, task.run_after.timestamp())
        said["expires_at"] = due + seconds(task.expires, "expires")
    if getattr(task, "by_name", False):
        said["by_name"] = True
        if task.max_attempts is None:
            said["open"] = True
    return json.dumps(said) if said else None


@lru_cache(maxsize=2048)
def read(policy: str) -> Mapping[str, Any]:
    """What is kept with a job; several ask, and jobs with one text share it."""
    found: dict[str, Any] = _decode(policy)[0]
    return MappingProxyType(found)


def timeout_of(job: Claimed) -> float | None:
    """Seconds that one attempt of a job may run, or None."""
    timeout: float | None = read(job.policy).get("timeout") if job.policy else None
    return timeout


def with_budget(job: Claimed, attempts: int) -> Claimed:
    """A job that does not say how many attempts it has, with so many in all."""
    said = read(job.policy) if job.policy else {}
    if "open" not in said:
        return job
    return job._replace(max_attempts=said.get("spent", 0) + attempts)


def refusal(job: Claimed, *, now: float) -> str | None:
    """Why a job must not start: a limit, or that it came too late; None if it may."""
    if not job.policy:
        return None
    if job.policy == REFUSED:
        return Reason.LIMIT
    # One that has started before is never too late.
    expires_at = read(job.policy).get("expires_at") if job.attempts <= 1 else None
    return Reason.EXPIRED if expires_at is not None and now > expires_at else None


def check_policy(task: Any) -> None:
    """Refuse a task whose policies mean nothing, with RefusedTask."""
    where = f"{task.module_path}: "
    attempts = getattr(task, "max_attempts", None)
    if attempts is not None and (
        type(attempts) is not int or not 1 <= attempts <= MAX_ATTEMPTS
    ):
        raise RefusedTask(
            f"{where}max_attempts must be a whole number from 1 to {MAX_ATTEMPTS}, "
            f"not {attempts!r}."
        )
    on_lost = getattr(task, "on_lost", None)
    if on_lost is not None and on_lost not in ON_LOST:
        raise RefusedTask(f'{where}on_lost must be "retry" or "fail", not {on_lost!r}.')
    _check_times(where, task)
    _check_executor(where, task)
    for name in ("retry_on", "give_up_on"):
        classes = getattr(task, name, None) or ()
        if not isinstance(classes, tuple) or not all(map(_is_exception, classes)):
            raise RefusedTask(
                f"{where}{name} must hold exception classes, not {classes!r}."
            )
    fair_by = getattr(task, "fair_by", None)
    if not (fair_by is None or callable(fair_by) or _is_text(fair_by)):
        raise RefusedTask(
            f"{where}fair_by must be a format string or a callable, not {fair_by!r}."
        )
    version = getattr(task, "version", "")
    if type(version) not in (str, int) or len(str(version)) > VERSION_LENGTH:
        raise RefusedTask(
            f"{where}version must be a number, or a text of up to {VERSION_LENGTH} "
            f"characters, not {version!r}."
        )
    _check_metadata(where, getattr(task, "metadata", None))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_exception(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, BaseException)


def _check_times(where: str, task: Any) -> None:
    try:
        for name in ("timeout", "expires"):
            value = getattr(task, name, None)
            if value is not None and not seconds(value, name):
                raise ValueError(f"{name} must be longer than 0 s.")
        backoff = getattr(task, "backoff", None)
        if not (backoff is None or callable(backoff) or isinstance(backoff, str)):
            seconds(backoff, "backoff")
    except (TypeError, ValueError) as error:
        raise RefusedTask(f"{where}{error}") from error


def _check_executor(where: str, task: Any) -> None:
    executor = getattr(task, "executor", None)
    is_async = iscoroutinefunction(task.func)
    if executor not in (None, *EXECUTORS):
        raise RefusedTask(
            f"{where}executor must be one of {', '.join(EXECUTORS)}, not {executor!r}."
        )
    if executor == "async" and not is_async:
        raise RefusedTask(
            f'{where}executor="async" is for coroutine functions, and this is not one.'
        )
    atomic = getattr(task, "atomic", False)
    if not isinstance(atomic, bool):
        raise RefusedTask(f"{where}atomic must be True or False, not {atomic!r}.")
    if atomic and is_async:
        raise RefusedTask(
            f"{where}atomic is for plain functions: Django has no transactions in "
            "coroutines."
        )


def _check_metadata(where: str, metadata: Any) -> None:
    if metadata is None:
        return
    try:
        if not isinstance(metadata, dict):
            raise TypeError(f"metadata must be a dict, not {metadata!r}.")
        dump_value(metadata, "metadata")
    except TypeError as error:
        raise RefusedTask(f"{where}{error}") from error
