"""
Arguments and return values as JSON text, or a clear refusal.

The text must mean the same on every database. So what PostgreSQL's ``jsonb`` cannot
store (a NUL character, half of a surrogate pair) and what JSON does not have (NaN,
infinity) is refused everywhere, at the door, with the place it was found at. So is
what only some parsers can read back, because it is nested hundreds of levels deep.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from windlass.exceptions import InvalidArguments
from windlass.tasks_api import normalize_json

encode = json.JSONEncoder(allow_nan=False).encode


def _encoder() -> Callable[[Any], str]:
    """An encoder that is made once; JSONEncoder.encode makes one for each call."""
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return encode
    escape, refuse = json.encoder.encode_basestring_ascii, json.JSONEncoder().default
    # No memory of what it is in: what holds itself is a RecursionError here.
    try:
        parts = make(None, refuse, escape, None, ": ", ", ", False, False, False)
    except TypeError:
        # Its parameters are nobody's promise.
        return encode
    return lambda value: "".join(parts(value, 0))


_encode_once = _encoder()
# SQLite reads 1,000 levels, Python as many as its stack has left.
MAX_DEPTH = 500
LARGE_FLOAT = re.compile(r'"(?:[^"\\]|\\.)*"|(-?[0-9.]+e\+[0-9]+)')
ADVICE = "Pass something that JSON can hold: for a model instance, its primary key."


def dump_call(
    task_path: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[str, str]:
    """Write a call's arguments as JSON text; raise InvalidArguments if they cannot."""
    # Exact types first: asking whether something is a Mapping is slow.
    if (type(kwargs) is not dict and not isinstance(kwargs, Mapping)) or (
        not isinstance(args, list | tuple)
    ):
        raise InvalidArguments(
            f"{task_path} cannot be enqueued: its arguments must be a list and a dict, "
            f"not of type {type(args).__name__} and {type(kwargs).__name__}."
        )
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
    """Write a return value as JSON text; raise TypeError if it cannot be that."""
    if value is None:
        return None
    try:
        return _dump(value)
    except (TypeError, ValueError, RecursionError) as error:
        said = _refusal(value, "the return value", error)
        raise TypeError(f"The task ran, but {said}") from error


def dump_value(value: Any, name: str) -> str:
    """Write any other value as JSON text; a TypeError says what cannot be that."""
    try:
        return _dump(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(_refusal(value, name, error)) from error


def _refusal(value: Any, name: str, error: Exception) -> str:
    return f"{_culprit(value, name) or f'{name}: {error}'}. {ADVICE}"


def _dump(value: Any) -> str:
    try:
        text = _encode_once(value)
    except RecursionError:
        # It may hold itself, and this one can say so.
        text = encode(value)
    except TypeError:
        # Django's contract accepts a little more: bytes, any mapping or sequence.
        text = encode(normalize_json(value))
    if "\\u" in text and ("\\u0000" in text or "\\ud" in text):
        _check_text(json.loads(text))
    if len(text) > MAX_DEPTH and text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(json.loads(text))
    return LARGE_FLOAT.sub(_with_fraction, text) if "e+" in text else text


def _with_fraction(found: re.Match[str]) -> str:
    # PostgreSQL would write 1e+16 as a whole number, which is then read as an int,
    # and may not even equal the float; a fraction it keeps.
    return f"{Decimal(found[1]):f}.0" if found[1] else found[0]


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


class _TooDeep(ValueError):
    pass


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level:
        if depth > MAX_DEPTH:
            raise _TooDeep(f"it is nested more than {MAX_DEPTH} levels deep")
        depth += 1
        level = [part for item in level for _label, part in _parts(item)]


def _culprit(value: Any, path: str) -> str:
    """Say which innermost part cannot be stored, or nothing if all can."""
    try:
        _dump(value)
    except (TypeError, ValueError, RecursionError) as error:
        for label, item in [] if _is_endless(error) else _parts(value):
            found = _culprit(item, f"{path}[{label}]")
            if found:
                return found
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        return f"{path} is of type {kind.removeprefix('builtins.')}: {error}"
    return ""


def _is_endless(error: Exception) -> bool:
    # The whole is at fault then; a search for the part at fault would never end.
    return isinstance(error, RecursionError | _TooDeep) or "Circular" in str(error)


def _parts(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(repr(key), item) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [(str(place), item) for place, item in enumerate(value)]
    return []
