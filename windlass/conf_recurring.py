"""
What is to recur, and how often the scheduler looks: read and checked to the last word.

The same rules serve ``OPTIONS["recurring"]`` and ``schedule_recurring_task``, so what
one of them refuses the other does too. Whether there is such a task is not asked here:
when settings are read, no task can be imported.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from windlass import conf_values as values
from windlass import schedules
from windlass.conf_values import Parser
from windlass.exceptions import ConfigurationError

SKIP_RECURRING = "WINDLASS_SKIP_RECURRING"
OVERLAPS = ("allow", "skip", "cancel_previous")
MISSED = ("latest", "all", "skip")
NAME_LENGTH, PATH_LENGTH, ZONE_LENGTH = 255, 500, 64
TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerOptions:
    """How the scheduler of a backend works."""

    polling_interval: float = 5
    dynamic_tasks_enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurring:
    """What is to be enqueued again and again, and when."""

    key: str
    task_path: str
    schedule: str
    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)
    # What is left out is the task's own.
    queue_name: str = ""
    priority: int | None = None
    description: str = ""
    # Empty: the project's.
    timezone: str = ""
    overlap: str = "allow"
    missed: str = "latest"

    @property
    def timing(self) -> schedules.Timing:
        """When it is due."""
        return schedules.timing(self.schedule, self.timezone or settings.TIME_ZONE)


def complete(key: Any, said: dict[str, Any], path: str) -> Recurring:
    """Put together what was said about one key, or say what is missing or wrong."""
    if not _is_name(key):
        raise values.wrong(
            path, f"under a name of 1 to {NAME_LENGTH} printable characters", key
        )
    for name in ("task_path", "schedule"):
        if name not in said:
            raise ConfigurationError(f'{path}: "{name}" is missing')
    found = Recurring(key=key, **said)
    try:
        # With its zone: whether it will ever be due may depend on that.
        _ = found.timing
    except ValueError as error:
        raise ConfigurationError(f'{path}["schedule"]: {error}') from error
    return found


def skips_recurring() -> bool:
    """Whether the environment says that this runtime fires no schedules."""
    said = os.environ.get(SKIP_RECURRING, "").strip().lower()
    if said not in ("", *TRUE, *FALSE):
        raise values.wrong(SKIP_RECURRING, f"one of {', '.join(TRUE + FALSE)}", said)
    return said in TRUE


def _is_name(value: Any) -> bool:
    return (
        isinstance(value, str)
        and 0 < len(value) <= NAME_LENGTH
        and value.isprintable()
        and value == value.strip()
    )


def _name(value: Any, path: str) -> str:
    if not _is_name(value):
        raise values.wrong(path, f"a name of 1 to {NAME_LENGTH} characters", value)
    return str(value)


def _task_path(value: Any, path: str) -> str:
    is_path = isinstance(value, str) and re.fullmatch(r"\w+(\.\w+)+", value)
    if not is_path or len(value) > PATH_LENGTH:
        raise values.wrong(path, 'the dotted path of a task: "shop.tasks.sync"', value)
    return str(value)


def _schedule(value: Any, path: str) -> str:
    try:
        return schedules.written(value)
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _zone(value: Any, path: str) -> str:
    if value is None or value == "":
        return ""
    try:
        name = schedules.zone_named(value).key
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    if len(name) > ZONE_LENGTH:
        raise values.wrong(path, f"up to {ZONE_LENGTH} characters long", value)
    return name


def _args(value: Any, path: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise values.wrong(path, "a list", value)
    return [_as_json(item, f"{path}[{place}]") for place, item in enumerate(value)]


def _kwargs(value: Any, path: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
        raise values.wrong(path, "a mapping of names to values", value)
    return {name: _as_json(item, f'{path}["{name}"]') for name, item in value.items()}


def _as_json(value: Any, path: str) -> Any:
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} must be JSON: {error}") from error


def _priority(value: Any, path: str) -> int | None:
    if value is not None and (type(value) is not int or not -100 <= value <= 100):
        raise values.wrong(path, "a whole number from -100 to 100", value)
    return None if value is None else int(value)


def _text(value: Any, path: str) -> str:
    # What cannot be encoded (half of a surrogate pair) no database stores.
    if not isinstance(value, str) or "\0" in value or _encoded(value) is None:
        raise values.wrong(path, "a text that can be stored", value)
    return value


def _encoded(text: str) -> bytes | None:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return None


RECURRING: dict[str, Parser] = {
    "task_path": _task_path,
    "schedule": _schedule,
    "args": _args,
    "kwargs": _kwargs,
    "queue_name": lambda value, path: _name(value, path) if value else "",
    "priority": _priority,
    "description": _text,
    "timezone": _zone,
    "overlap": values.one_of(*OVERLAPS),
    "missed": values.one_of(*MISSED),
}

SCHEDULER: dict[str, Parser] = {
    "polling_interval": values.seconds_above_0,
    "dynamic_tasks_enabled": values.yes_or_no,
}
