"""
The settings of a backend, read once and checked to the last name.

TASKS[alias] holds Django's keys (BACKEND, QUEUES), the defaults of every task
(MAX_ATTEMPTS, BACKOFF) and OPTIONS, which is about the runtime. A name nobody
knows, or a value of the wrong kind, is a ConfigurationError that gives its exact
path: a misspelled option that is ignored is found weeks later, in production.

The command line comes first, then the environment, the file, the settings and the
defaults. An option of the file replaces the one of the settings as a whole.

Options is a value. It is bound once, in the object built with it, and the command
line makes a changed copy.
"""

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cache
from typing import Any, Literal

from django.core.signals import setting_changed
from django.dispatch import receiver

from windlass import conf_file, conf_recurring
from windlass import conf_values as values
from windlass.conf_file import FILE, MODE
from windlass.conf_recurring import Recurring, SchedulerOptions
from windlass.conf_tasks import aliases, params
from windlass.conf_values import Parser, quoted
from windlass.exceptions import ConfigurationError
from windlass.tasks_api import DEFAULT_TASK_QUEUE_NAME

__all__ = ["Options", "WorkerOptions", "aliases", "options", "params"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """Which queues one kind of worker serves, in order, and with how much."""

    queues: tuple[str, ...] = ("*",)
    processes: int = 1
    threads: int = 3
    async_concurrency: int = 100
    polling_interval: float = 0.1
    # Above 0: one job at a time in each process, and so long between two.
    job_pause: float = 0
    max_jobs: int | None = None
    max_memory: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Everything TASKS says about one alias, with its defaults filled in."""

    alias: str
    mode: Literal["fork", "async"] = "fork"
    workers: tuple[WorkerOptions, ...] = (WorkerOptions(),)
    database_alias: str = "default"
    wakeup: Literal["auto", "notify", "redis", "poll"] = "auto"
    redis_url: str | None = None
    process_heartbeat_interval: float = 5
    process_alive_threshold: float = 30
    shutdown_timeout: float = 30
    stop_grace: float = 5
    crash_limit: int = 3
    liveness_file: str | None = None
    supervisor_pidfile: str | None = None
    on_thread_error: str | Callable[[BaseException], object] | None = None
    preserve_finished_jobs: bool = True
    clear_finished_jobs_after: float | None = 86400
    clear_failed_jobs_after: float | None = None
    clear_recurring_executions_after: float | None = None
    scheduler: SchedulerOptions = field(default_factory=SchedulerOptions)
    recurring: tuple[Recurring, ...] = ()
    queue_limits: Mapping[str, int] = field(default_factory=dict)
    default_concurrency_duration: float = 180
    silence_polling: bool = True
    # Modules whose plain functions may be run by name; None: those of installed apps.
    task_modules: tuple[str, ...] | None = None
    max_attempts: int = 1
    backoff: float | str | Callable[..., Any] | None = None
    # Django's allow-list; empty means that any queue name is welcome.
    queues: tuple[str, ...] = (DEFAULT_TASK_QUEUE_NAME,)

    def with_command_line(
        self,
        *,
        mode: str | None = None,
        queues: str | None = None,
        processes: int | None = None,
        threads: int | None = None,
    ) -> "Options":
        """
        Return a copy in which the command line has the last word.

        Queues ask for one worker, which is the first one of the settings in all
        but its queues; processes and threads apply to each worker.
        """
        said = {"queues": queues, "processes": processes, "threads": threads}
        changes = {
            name: _WORKER[name](value, f"--{name}")
            for name, value in said.items()
            if value is not None
        }
        workers = self.workers if queues is None else self.workers[:1]
        changed = replace(
            self,
            mode=self.mode if mode is None else _OPTIONS["mode"](mode, "--mode"),
            workers=tuple(replace(worker, **changes) for worker in workers),
        )
        possible = in_one_process_if_async(changed)
        if possible != changed:
            ignored = "Mode async runs in one process; the number asked for is ignored."
            warnings.warn(ignored, RuntimeWarning, stacklevel=2)
        return possible


@cache
def options(alias: str) -> Options:
    """Return the options of a backend alias, as TASKS has them now."""
    return in_one_process_if_async(written(alias))


def written(alias: str) -> Options:
    """Read the options of an alias as settings, file and environment say them."""
    changes = _from_file(alias)
    if mode := os.environ.get(MODE, "").strip():
        changes["mode"] = _OPTIONS["mode"](mode, MODE)
    return replace(parse(alias, params(alias)), **changes)


def use_file(path: str) -> None:
    """Read this file of options, here and in every process that this one starts."""
    os.environ[FILE] = path
    options.cache_clear()


@receiver(setting_changed)
def forget(*, setting: str, **kwargs: Any) -> None:
    """Read the settings again after a test has changed them."""
    if setting in {"TASKS", "DATABASES"}:
        options.cache_clear()
        aliases.cache_clear()


def parse(alias: str, entry: Any) -> Options:
    """Read one entry of TASKS, or raise with the path of the first mistake."""
    given = _read(entry, _at("TASKS", alias), _ENTRY)
    given.pop("BACKEND", None)
    runtime = given.pop("OPTIONS", {})
    beside = {name.lower(): value for name, value in given.items()}
    return Options(alias=alias, **beside, **runtime)


def in_one_process_if_async(options: Options) -> Options:
    """Return the options as the mode can run them: async is one process."""
    if options.mode != "async":
        return options
    workers = tuple(replace(worker, processes=1) for worker in options.workers)
    return replace(options, workers=workers)


def _from_file(alias: str) -> dict[str, Any]:
    path = os.environ.get(FILE, "").strip()
    if not path:
        return {}
    entry = conf_file.entry(path, alias, aliases())
    return _read(entry, _at(path, alias), _OPTIONS)


def _read(value: Any, path: str, parsers: Mapping[str, Parser]) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{path} must be a mapping, not {value!r}")
    for name in value:
        if name not in parsers:
            advice = _advice(str(name), path, parsers)
            raise ConfigurationError(f"{_at(path, name)}: unknown option; {advice}")
    return {name: parsers[name](item, _at(path, name)) for name, item in value.items()}


def _advice(name: str, path: str, parsers: Mapping[str, Parser]) -> str:
    nearest = get_close_matches(name, parsers, n=1)
    if nearest:
        return f'did you mean "{nearest[0]}"?'
    if path.startswith("TASKS["):
        entry = path.partition('["OPTIONS"]')[0]
        inside = _at(entry, "OPTIONS")
        places = {entry: _ENTRY}
    else:
        # The tables of a file are what OPTIONS is in the settings.
        inside, places = path[: path.index('"]') + len('"]')], {}
    places |= {
        inside: _OPTIONS,
        _at(inside, "workers"): _WORKER,
        _at(inside, "scheduler"): conf_recurring.SCHEDULER,
    }
    for place, known in places.items():
        for spelling in (name, name.upper(), name.lower()):
            if spelling in known:
                return f"did you mean {_at(place, spelling)}?"
    return f"the names it knows are {quoted(parsers)}"


def _at(path: str, key: Any) -> str:
    return f'{path}["{key}"]' if isinstance(key, str) else f"{path}[{key!r}]"


def _workers(value: Any, path: str) -> tuple[WorkerOptions, ...]:
    if isinstance(value, Mapping):
        return (WorkerOptions(**_read(value, path, _WORKER)),)
    if not isinstance(value, list | tuple) or not value:
        raise values.wrong(path, "one mapping, or a list of at least one", value)
    return tuple(
        WorkerOptions(**_read(worker, f"{path}[{index}]", _WORKER))
        for index, worker in enumerate(value)
    )


def _scheduler(value: Any, path: str) -> SchedulerOptions:
    return SchedulerOptions(**_read(value, path, conf_recurring.SCHEDULER))


def _recurring(value: Any, path: str) -> tuple[Recurring, ...]:
    if not isinstance(value, Mapping):
        raise values.wrong(path, "a mapping of keys to recurring tasks", value)
    return tuple(recurring(key, entry, _at(path, key)) for key, entry in value.items())


def recurring(key: Any, entry: Any, path: str) -> Recurring:
    """Read what is to recur under one key, or raise with the path of a mistake."""
    said = _read(entry, path, conf_recurring.RECURRING)
    return conf_recurring.complete(key, said, path)


_WORKER: dict[str, Parser] = {
    "queues": values.selectors,
    "processes": values.whole,
    "threads": values.whole,
    "async_concurrency": values.whole,
    "polling_interval": values.seconds_above_0,
    "job_pause": values.seconds,
    "max_jobs": values.whole,
    "max_memory": values.size,
}

_OPTIONS: dict[str, Parser] = {
    "mode": values.one_of("fork", "async"),
    "workers": _workers,
    "database_alias": values.database,
    "wakeup": values.one_of("auto", "notify", "redis", "poll"),
    "redis_url": values.url,
    "process_heartbeat_interval": values.seconds_above_0,
    "process_alive_threshold": values.seconds_above_0,
    "shutdown_timeout": values.seconds,
    "stop_grace": values.seconds_above_0,
    "crash_limit": values.whole,
    "liveness_file": values.file,
    "supervisor_pidfile": values.file,
    "on_thread_error": values.called,
    "preserve_finished_jobs": values.yes_or_no,
    "clear_finished_jobs_after": values.seconds_or_never,
    "clear_failed_jobs_after": values.seconds_or_never,
    "clear_recurring_executions_after": values.seconds_or_never,
    "scheduler": _scheduler,
    "recurring": _recurring,
    "queue_limits": values.limits_by_queue,
    "default_concurrency_duration": values.seconds_above_0,
    "silence_polling": values.yes_or_no,
    "task_modules": values.modules,
}

_ENTRY: dict[str, Parser] = {
    "BACKEND": lambda value, path: value,
    "QUEUES": values.queue_names,
    "OPTIONS": lambda value, path: _read(value, path, _OPTIONS),
    "MAX_ATTEMPTS": values.whole,
    "BACKOFF": values.backoff,
}
