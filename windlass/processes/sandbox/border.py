"""
What comes out of a sandbox, and how far it is believed.

Whoever runs inside may say what he likes on the socket of his log, and the worker that
listens has other runs. So lines and progress have their shape and size or are dropped,
nobody outside takes over a file from inside, and connections are few.
"""

from __future__ import annotations

import math
from typing import Any

from windlass.processes.lines import LEVELS, LOG, RECORD, STDERR, STDOUT, clean

# Bytes of a line on the socket, and connections of one run at a time.
MOST, CONNECTIONS = 1 << 18, 64
# What only the supervision says is not said from inside.
STREAMS = (LOG, RECORD, STDOUT, STDERR)
NUMBERS, LARGEST = ("current", "total", "percent", "eta"), 1e15
TEXTS, LONGEST = ("message", "at"), 1000


def admitted(items: list[Any]) -> list[Any]:
    """The items that may come in, made harmless."""
    return [found for item in items if (found := _admitted(item)) is not None]


def _admitted(item: Any) -> Any:
    if isinstance(item, list):
        return _line(*item) if len(item) == 4 else None
    if not isinstance(item, dict):
        return None
    # Whoever is inside may ask for his own end.
    for word in ("flush", "end"):
        if word in item:
            return {word: 1}
    said = item.get("progress")
    return {"progress": _progress(said)} if isinstance(said, dict) else None


def _line(created: Any, level: Any, stream: Any, message: Any) -> list[Any] | None:
    is_sane = (
        _is_number(created)
        and created > 0
        # Years have four digits in a database.
        and created < 2.5e11
        and level in LEVELS
        and stream in STREAMS
        and isinstance(message, str)
    )
    return [created, level, stream, clean(message)] if is_sane else None


def _progress(said: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"current": 0, "total": None, "message": ""}
    found |= {"percent": None, "eta": None, "at": ""}
    for name in NUMBERS:
        if _is_number(said.get(name)):
            found[name] = said[name]
    for name in TEXTS:
        if isinstance(said.get(name), str):
            found[name] = clean(said[name][:LONGEST])
    return found


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < LARGEST and not math.isnan(value)
