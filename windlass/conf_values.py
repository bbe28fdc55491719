"""
The kinds of value a setting may have: each reads one, or says what it must be.

A parser gets the value and its path in the settings. What it gives back is what the
rest of Windlass works with; what it refuses is a ConfigurationError with that path.
"""

import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

from django.conf import settings

from windlass.exceptions import ConfigurationError

Parser = Callable[[Any, str], Any]


def quoted(names: Iterable[str]) -> str:
    """Names in a message."""
    return ", ".join(f'"{name}"' for name in names)


def wrong(path: str, expected: str, value: Any) -> ConfigurationError:
    """Say what a value must be and what it is instead."""
    return ConfigurationError(f"{path} must be {expected}, not {value!r}")


def whole(value: Any, path: str) -> int:
    """Read a number of things."""
    if type(value) is not int or value < 1:
        raise wrong(path, "a whole number of at least 1", value)
    return value


def seconds(value: Any, path: str) -> float:
    """Read a duration that may be none at all."""
    if not _is_number(value) or value < 0:
        raise wrong(path, "a number of seconds, 0 or more", value)
    return float(value)


def seconds_above_0(value: Any, path: str) -> float:
    """Read a duration that takes time."""
    if not _is_number(value) or value <= 0:
        raise wrong(path, "a number of seconds above 0", value)
    return float(value)


def seconds_or_never(value: Any, path: str) -> float | None:
    """Read a duration, as seconds or a timedelta; None or "never" is none."""
    # TOML has no word for None.
    if value == "never":
        return None
    if isinstance(value, timedelta):
        value = value.total_seconds()
    return None if value is None else seconds(value, path)


def yes_or_no(value: Any, path: str) -> bool:
    """Read a switch."""
    if not isinstance(value, bool):
        raise wrong(path, "True or False", value)
    return value


def age(value: str, path: str) -> timedelta:
    """Read an age on the command line: seconds, or with a unit such as 7d or 12h."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([smhdw]?)", value.strip())
    if not found:
        raise wrong(path, "seconds, or a number with s, m, h, d or w", value)
    unit = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[found[2]]
    return timedelta(seconds=seconds(float(found[1]) * unit, path))


def size(value: Any, path: str) -> int:
    """A number of bytes, or a text such as "512M"."""
    found = re.fullmatch(r"(\d+) ?([KMG]?)i?B?", str(value), re.IGNORECASE)
    if isinstance(value, bool) or not found or not int(found[1]):
        raise wrong(path, 'bytes, or a text like "512M"', value)
    number: int = int(found[1]) * 1024 ** " KMG".index(found[2].upper() or " ")
    return number


def one_of(*choices: str) -> Parser:
    """Make a parser of a few words."""

    def parser(value: Any, path: str) -> str:
        if value not in choices:
            raise wrong(path, f"one of {quoted(choices)}", value)
        return str(value)

    return parser


def database(value: Any, path: str) -> str:
    """Read an alias of DATABASES."""
    if not isinstance(value, str) or value not in settings.DATABASES:
        raise wrong(path, f"one of DATABASES ({quoted(settings.DATABASES)})", value)
    return value


def file(value: Any, path: str) -> str | None:
    """Read where a file is to be, or None for nowhere."""
    if value is None:
        return None
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise wrong(path, "the path of a file, or None", value)
    return os.fsdecode(value)


def url(value: Any, path: str) -> str | None:
    """Read where a server is, or None."""
    if value is None or (isinstance(value, str) and "://" in value):
        return value
    raise wrong(path, 'a URL such as "redis://localhost:6379/0", or None', "...")


def queue_names(value: Any, path: str) -> tuple[str, ...]:
    """Read Django's allow-list of queues."""
    # A bare string would become the set of its letters in Django's allow-list.
    if not isinstance(value, list | tuple | set | frozenset):
        raise wrong(path, "a list of queue names", value)
    for index, name in enumerate(value):
        if not isinstance(name, str) or not name:
            raise wrong(f"{path}[{index}]", "a queue name", name)
    return tuple(value)


def modules(value: Any, path: str) -> tuple[str, ...] | None:
    """Read patterns of modules, in which a star is any text; None for the default."""
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        raise wrong(path, "a list of patterns of modules, or None", value)
    for index, pattern in enumerate(value):
        if not isinstance(pattern, str) or not re.fullmatch(r"[\w.*]+", pattern):
            raise wrong(f"{path}[{index}]", 'a pattern such as "shop.*"', pattern)
    return tuple(value)


def limits_by_queue(value: Any, path: str) -> dict[str, int]:
    """Read how many jobs of each of some queues run at the same time."""
    if not isinstance(value, Mapping):
        raise wrong(path, "a mapping of queue names to whole numbers", value)
    queue_names(list(value), path)
    return {name: whole(limit, f'{path}["{name}"]') for name, limit in value.items()}


def selectors(value: Any, path: str) -> tuple[str, ...]:
    """Read which queues a worker serves: names, prefixes with a star, or the star."""
    listed = (
        [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    )
    if not isinstance(listed, list | tuple) or not listed:
        raise wrong(path, "queue selectors, in a list or with commas", value)
    for index, selector in enumerate(listed):
        if not isinstance(selector, str) or not re.fullmatch(r"[^*,]+\*?|\*", selector):
            where = f"{path}[{index}]" if listed is value else path
            raise wrong(where, 'a queue name, a prefix with "*", or "*"', selector)
    return tuple(dict.fromkeys(listed))


def backoff(value: Any, path: str) -> Any:
    """Read a wait after a failed attempt, or what computes it."""
    if isinstance(value, timedelta):
        return seconds(value.total_seconds(), path)
    if _is_number(value):
        return seconds(value, path)
    is_path = isinstance(value, str) and re.fullmatch(r"\w+(\.\w+)+", value)
    if value is None or callable(value) or is_path:
        return value
    raise wrong(path, "seconds, a timedelta, a dotted path or a callable", value)


def called(value: Any, path: str) -> Any:
    """Read what is called: a callable, its dotted path, or None for nothing."""
    is_path = isinstance(value, str) and re.fullmatch(r"\w+(\.\w+)+", value)
    if value is None or callable(value) or is_path:
        return value
    raise wrong(path, "a callable, its dotted path, or None", value)


def _is_number(value: Any) -> bool:
    # True is an int in Python, and never what someone means as a number.
    return type(value) in {int, float} and abs(value) <= threading.TIMEOUT_MAX
