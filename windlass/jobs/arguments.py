"""
Arguments and return values as JSON text, or a clear refusal.

The text must mean the same on every database. So what PostgreSQL's ``jsonb`` cannot
store (a NUL character, half of a surrogate pair) and what JSON does not have (NaN,
infinity) is refused everywhere, at the door, with the place it was found at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from windlass.exceptions import InvalidArguments
from windlass.tasks_api import normalize_json

ADVICE = "Pass something that JSON can hold: for a model instance, its primary key."


def dump_call(
    task_path: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[str, str]:
    """Write a call's arguments as JSON text; raise InvalidArguments if they cannot."""
    try:
        return _dump(args), _dump(kwargs) if kwargs else "{}"
    except (TypeError, ValueError, RecursionError) as error:
        cause = error
    for name, value in [*enumerate(args), *kwargs.items()]:
        label = f"args[{name}]" if isinstance(name, int) else f"kwargs[{name!r}]"
        place = _culprit(value, label)
        if place:
            raise InvalidArguments(
                f"{task_path} cannot be enqueued: {place}. Nothing was stored. {ADVICE}"
            ) from cause
    raise InvalidArguments(f"{task_path} cannot be enqueued: {cause}.") from cause


def dump_result(value: Any) -> str | None:
    """Write a return value as JSON text (None for None); raise TypeError if it cannot."""
    if value is None:
        return None
    try:
        return _dump(value)
    except (TypeError, ValueError, RecursionError) as error:
        place = _culprit(value, "the return value") or f"the return value: {error}"
        raise TypeError(f"The task ran, but {place}. {ADVICE}") from error


def _dump(value: Any) -> str:
    try:
        text = json.dumps(value, allow_nan=False)
    except TypeError:
        # Django's contract accepts a little more: bytes, any mapping or sequence.
        text = json.dumps(normalize_json(value), allow_nan=False)
    if "\\u0000" in text or "\\ud" in text:
        _check_text(json.loads(text))
    return text


def _check_text(value: Any) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("a NUL character cannot be stored")
        value.encode()  # half of a surrogate pair raises UnicodeEncodeError
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_text(key)
            _check_text(item)
    elif isinstance(value, list):
        for item in value:
            _check_text(item)


def _culprit(value: Any, path: str, depth: int = 0) -> str:
    """Say which innermost part cannot be stored, or nothing if all can."""
    if depth > 100:
        return f"{path} is nested too deeply or contains itself"
    try:
        _dump(value)
    except (TypeError, ValueError, RecursionError) as error:
        for label, item in _parts(value):
            found = _culprit(item, f"{path}[{label}]", depth + 1)
            if found:
                return found
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        return f"{path} is of type {kind.removeprefix('builtins.')}: {error}"
    return ""


def _parts(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(repr(key), item) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [(str(place), item) for place, item in enumerate(value)]
    return []
