"""
The setting WINDLASS_PROCESSES, read once and checked to the last name.

A name nobody knows, or a value of the wrong kind, is a ConfigurationError that gives
its exact path, as for TASKS.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cache
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed
from django.dispatch import receiver
from django.utils.module_loading import import_string

from windlass import conf_values as values
from windlass.conf_tasks import aliases
from windlass.conf_values import Parser
from windlass.exceptions import ConfigurationError
from windlass.tasks_api import DEFAULT_TASK_BACKEND_ALIAS

SETTING = "WINDLASS_PROCESSES"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessOptions:
    """Everything WINDLASS_PROCESSES says, with its defaults filled in."""

    backend: str = "windlass.processes.backends.native.NativeBackend"
    executor: str = "fork"
    tasks_alias: str = DEFAULT_TASK_BACKEND_ALIAS
    queue: str = "processes"
    supervisor_queue: str = "supervisor"
    kill_term_retries: int = 3
    kill_term_wait_seconds: float = 2
    capture_output: bool = True
    memory_limit: int | None = None
    cpu_limit: float | None = None
    open_files_limit: int | None = None
    nice: int = 0
    log_limit: int | None = 1_000_000
    sandbox_runtime: str = "runsc"
    sandbox_network: str = "none"
    sandbox_state_root: str | None = None
    sandbox_arguments: tuple[str, ...] = ()
    sandbox_mounts: tuple[str, ...] = ()
    sandbox_environment: tuple[str, ...] = ()


def _name(value: Any, path: str) -> str:
    if not isinstance(value, str) or not value:
        raise values.wrong(path, "the name of a queue", value)
    return value


def _path(value: Any, path: str) -> str:
    if not isinstance(value, str) or "." not in value:
        raise values.wrong(path, "the dotted path of a backend's class", value)
    return value


def _program(value: Any, path: str) -> str:
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise values.wrong(path, "the name or path of a program", value)
    return os.fsdecode(value)


def _directory(value: Any, path: str) -> str:
    if not isinstance(value, str | os.PathLike) or not os.path.isabs(value):
        raise values.wrong(path, "the absolute path of a directory, or None", value)
    return os.fsdecode(value)


def _each(expected: str, fits: Callable[[str], object]) -> Parser:
    """A list of texts, each of which fits."""

    def parse(value: Any, path: str) -> tuple[str, ...]:
        if not isinstance(value, list | tuple):
            raise values.wrong(path, f"a list, each item {expected}", value)
        for index, item in enumerate(value):
            if not isinstance(item, str) or not fits(item):
                raise values.wrong(f"{path}[{index}]", expected, item)
        return tuple(value)

    return parse


def _or_none(parser: Parser) -> Parser:
    def parse(value: Any, path: str) -> Any:
        return None if value is None else parser(value, path)

    return parse


def _nice(value: Any, path: str) -> int:
    if value not in range(20) or isinstance(value, bool | float):
        raise values.wrong(path, "a whole number from 0 to 19", value)
    return int(value)


def _tasks_alias(value: Any, path: str) -> str:
    if value not in aliases():
        known = values.quoted(aliases()) or "none"
        raise values.wrong(path, f"a Windlass backend of TASKS ({known})", value)
    return str(value)


PARSERS: dict[str, Parser] = {
    "BACKEND": _path,
    "EXECUTOR": values.one_of("fork", "spawn", "sandbox"),
    "TASKS_ALIAS": _tasks_alias,
    "QUEUE": _name,
    "SUPERVISOR_QUEUE": _name,
    "KILL_TERM_RETRIES": values.whole,
    "KILL_TERM_WAIT_SECONDS": values.seconds_above_0,
    "CAPTURE_OUTPUT": values.yes_or_no,
    "MEMORY_LIMIT": _or_none(values.size),
    "CPU_LIMIT": _or_none(values.seconds_above_0),
    "OPEN_FILES_LIMIT": _or_none(values.whole),
    "NICE": _nice,
    "LOG_LIMIT": _or_none(values.whole),
    "SANDBOX_RUNTIME": _program,
    "SANDBOX_NETWORK": values.one_of("none", "host"),
    "SANDBOX_STATE_ROOT": _or_none(_directory),
    "SANDBOX_ARGUMENTS": _each(
        'an option such as "--platform=kvm"', re.compile("--?[a-z]").match
    ),
    "SANDBOX_MOUNTS": _each(
        'an absolute path, with ":rw" if it may be written',
        re.compile("(/[^:/]+)+(:r[ow])?$").match,
    ),
    "SANDBOX_ENVIRONMENT": _each("the name of a variable", re.compile(r"\w+$").match),
}


@cache
def options() -> ProcessOptions:
    """Return what WINDLASS_PROCESSES says now; ConfigurationError if it is wrong."""
    return parse(getattr(settings, SETTING, {}))


def parse(given: Any) -> ProcessOptions:
    """Read the setting, or raise with the path of the first mistake."""
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{SETTING} must be a mapping, not {given!r}")
    found = {}
    for name, value in given.items():
        path = f'{SETTING}["{name}"]'
        if name not in PARSERS:
            near = get_close_matches(str(name), PARSERS, 1)
            known = f"the names it knows are {values.quoted(PARSERS)}"
            advice = f'did you mean "{near[0]}"?' if near else known
            raise ConfigurationError(f"{path}: unknown option; {advice}")
        found[name.lower()] = PARSERS[name](value, path)
    return ProcessOptions(**found)


@cache
def backend() -> Any:
    """The backend that runs processes, made once."""
    path = options().backend
    try:
        cls = import_string(path)
    except ImportError as error:
        raise ConfigurationError(
            f'{SETTING}["BACKEND"]: {path} cannot be imported: {error}'
        ) from error
    for name in ("dispatch", "kill", "revoke_scheduled"):
        if not callable(getattr(cls, name, None)):
            raise ConfigurationError(
                f'{SETTING}["BACKEND"]: {path} has no method {name}(). A backend has '
                "dispatch(process), kill(task_id) and revoke_scheduled(task_id)."
            )
    return cls()


@receiver(setting_changed)
def forget(*, setting: str, **kwargs: Any) -> None:
    """Read the setting again after a test has changed it."""
    if setting in {SETTING, "TASKS"}:
        options.cache_clear()
        backend.cache_clear()


assert {field.name for field in fields(ProcessOptions)} == {
    name.lower() for name in PARSERS
}
