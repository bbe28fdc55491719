"""
Task: Django's task with the policies that Windlass adds to it.

``windlass.task`` is Django 6.1's ``@task`` on every supported Django. On 6.1 and
with the backport, Django's own decorator reaches this class too, through the
backend's ``task_class``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from inspect import isfunction
from typing import Any, TypeVar, overload

from django.conf import settings
from django.utils import timezone
from django.utils.module_loading import import_string

from windlass import tasks_api
from windlass.exceptions import ConfigurationError, RefusedTask
from windlass.jobs.retries import Backoff
from windlass.signatures import Signature

QUEUE_LENGTH, PATH_LENGTH = 255, 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(tasks_api.Task):
    """
    A function that can be enqueued, and what should happen to its jobs.

    ``max_attempts`` counts attempts in all (None: the backend's ``MAX_ATTEMPTS``).
    ``backoff`` is seconds, a timedelta, a dotted path, or a callable of the error and
    the result that gives seconds, or None to stop. ``retry_on`` and ``give_up_on``
    are exception classes. ``on_lost`` says what follows when the process that ran
    an attempt is gone: ``"retry"`` or ``"fail"`` (None: retry while attempts remain).
    ``timeout`` ends an attempt that runs longer (seconds or a timedelta). ``executor``
    is where the code runs: ``"thread"``, ``"async"`` or ``"process"`` (None: coroutine
    functions on the event loop, others in a thread). ``atomic`` commits what the
    function writes together with its completion. A job that has not started
    ``expires`` after it became due is discarded. ``fair_by`` is a key, as for
    ``windlass.unique``: jobs of one queue and priority take turns by it. ``version``
    is that of the function: a job whose durable steps were recorded under another one
    fails.
    """

    max_attempts: int | None = None
    backoff: Backoff = field(default=None, hash=False)
    retry_on: tuple[type[BaseException], ...] | None = None
    give_up_on: tuple[type[BaseException], ...] = ()
    on_lost: str | None = None
    timeout: float | timedelta | None = None
    executor: str | None = None
    atomic: bool = False
    expires: float | timedelta | None = None
    fair_by: str | Callable[..., Any] | None = None
    version: str | int = ""
    metadata: dict[str, Any] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        for name in ("retry_on", "give_up_on"):
            classes = getattr(self, name)
            if isinstance(classes, type | list | set | frozenset):
                # A single class or a list is what people write; a tuple can be hashed.
                one = (classes,) if isinstance(classes, type) else tuple(classes)
                object.__setattr__(self, name, one)
        if self.run_after is not None:
            object.__setattr__(self, "run_after", as_moment(self.run_after))
        # By name: zero-argument super() does not work in a slotted dataclass.
        tasks_api.Task.__post_init__(self)

    def using(
        self,
        *,
        priority: int | None = None,
        queue_name: str | None = None,
        run_after: datetime | timedelta | None = None,
        backend: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Task:
        """
        Return this task with other defaults for the calls that follow.

        ``run_after`` is an aware time, or a timedelta from now.
        """
        said: dict[str, Any] = {
            "priority": priority,
            "queue_name": queue_name,
            "run_after": run_after,
            "backend": backend,
            "metadata": metadata,
        }
        return replace(
            self, **{name: value for name, value in said.items() if value is not None}
        )

    def enqueue_on_commit(self, /, *args: Any, **kwargs: Any) -> None:
        """Enqueue when the queue database's transaction commits: see windlass.api."""
        backend: Any = self.get_backend()
        backend.enqueue_on_commit(self, args, kwargs)

    def s(self, /, *args: Any, **kwargs: Any) -> Signature:
        """
        Write a call down for ``windlass.workflows`` without making it.

        In a chain or a group, the result of what comes before is its first argument.
        """
        return Signature(self, args, kwargs)

    def si(self, /, *args: Any, **kwargs: Any) -> Signature:
        """Write a call down as ``s`` does, with no argument but its own."""
        return Signature(self, args, kwargs, is_immutable=True)

    def __reduce__(self) -> Any:
        kwargs = {f.name: getattr(self, f.name) for f in fields(self)}
        kwargs["func"] = self.module_path
        return _reconstruct, (type(self), kwargs)


def _reconstruct(cls: type[Task], kwargs: dict[str, Any]) -> Task:
    found = import_string(kwargs["func"])
    if not isinstance(found, tasks_api.Task):
        raise ValueError(
            f"{kwargs['func']!r} is not a task, so it cannot be unpickled."
        )
    return cls(**{**kwargs, "func": found.func})


def as_moment(run_after: Any) -> Any:
    """Make a delay or an aware time a moment; give back what is neither as it is."""
    try:
        if isinstance(run_after, timedelta):
            return timezone.now() + run_after
        if isinstance(run_after, datetime) and timezone.is_aware(run_after):
            # Every database stores UTC, in which not every zone's first and last day
            # can be said.
            utc = run_after.astimezone(UTC)
            return run_after if settings.USE_TZ else timezone.make_naive(utc)
    except OverflowError as error:
        raise RefusedTask(f"run_after is out of range: {run_after!r}.") from error
    return run_after


def check_call(task: Any) -> None:
    """Refuse a task whose function, queue, priority or time is not what it must be."""
    if not isfunction(task.func) or not task.func.__qualname__.isidentifier():
        raise RefusedTask(
            "Task function must be defined at a module level and under a name, for "
            f"workers to import it: {task.func!r} is not."
        )
    where = f"{task.module_path}: "
    if isinstance(task.priority, bool) or not isinstance(task.priority, int):
        raise RefusedTask(
            f"{where}priority must be a whole number from -100 to 100, "
            f"not {task.priority!r}."
        )
    if task.run_after is not None and not isinstance(task.run_after, datetime):
        raise RefusedTask(
            f"{where}run_after must be an aware datetime or a timedelta, "
            f"not {task.run_after!r}."
        )
    name = task.queue_name
    if not isinstance(name, str) or not _is_name(name):
        raise RefusedTask(
            f"{where}queue_name must be a name of 1 to {QUEUE_LENGTH} printable "
            f"characters, not {name!r}."
        )
    if len(task.module_path) > PATH_LENGTH:
        raise RefusedTask(f"{where}the path is over {PATH_LENGTH} characters long.")


def _is_name(name: str) -> bool:
    return 0 < len(name) <= QUEUE_LENGTH and name.isprintable() and name == name.strip()


F = TypeVar("F", bound=Callable[..., Any])


@overload
def task(function: Callable[..., Any], /) -> Task: ...


@overload
def task(
    *,
    priority: int = ...,
    queue_name: str = ...,
    backend: str = ...,
    takes_context: bool = ...,
    **policies: Any,
) -> Callable[[Callable[..., Any]], Task]: ...


def task(
    function: Callable[..., Any] | None = None,
    *,
    priority: int = tasks_api.DEFAULT_TASK_PRIORITY,
    queue_name: str = tasks_api.DEFAULT_TASK_QUEUE_NAME,
    backend: str = tasks_api.DEFAULT_TASK_BACKEND_ALIAS,
    takes_context: bool = False,
    **policies: Any,
) -> Any:
    """
    Make a function a task: Django's ``@task`` with the policies of ``Task``.

    Raises InvalidTask if the function cannot be one, and ConfigurationError for a
    policy that the backend's tasks do not have.
    """

    def decorate(func: Callable[..., Any]) -> Any:
        cls = tasks_api.task_backends[backend].task_class
        _check_policies(func, cls, policies)
        return cls(
            func=func,
            priority=priority,
            queue_name=queue_name,
            backend=backend,
            takes_context=takes_context,
            # Django 6.0 gives this field no default.
            run_after=None,
            **policies,
        )

    return decorate if function is None else decorate(function)


def _check_policies(
    func: Callable[..., Any], cls: type, policies: dict[str, Any]
) -> None:
    if "run_after" in policies:
        raise TypeError(
            "run_after cannot be defined statically with the @task decorator. "
            "Use .using(run_after=...) to set it for a call."
        )
    known = [f.name for f in fields(cls)]
    for name in policies:
        if name not in known:
            near = get_close_matches(name, known, 1)
            advice = f'did you mean "{near[0]}"?' if near else f"{cls} has {known}."
            raise ConfigurationError(
                f"@task of {func.__module__}.{func.__qualname__}: "
                f'unknown option "{name}"; {advice}'
            )
