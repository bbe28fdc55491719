"""
What a task says about the keys of its jobs, and the key of one call.

Imported with the package, so it knows no model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, TypeVar

from windlass.exceptions import ConfigurationError, RefusedTask

T = TypeVar("T")
CONFLICTS = ("return_existing", "discard", "replace", "raise")
# Where a task's function carries what @unique says.
UNIQUE = "_windlass_unique"
# And what each @rate_limit says, the outermost first.
RATES = "_windlass_rates"
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
# The starts that a key's row remembers.
MOST_COUNTED = 1000
KEY_LENGTH = 255


@dataclass(frozen=True, slots=True)
class Unique:
    """What ``@unique`` says about a task."""

    key: str | Callable[..., Any]
    on_conflict: str


@dataclass(frozen=True, slots=True)
class Rate:
    """What ``@rate_limit`` says: so many starts in any span of ``period`` seconds."""

    key: str | Callable[..., Any]
    limit: int
    period: float


def key_of(
    rule: Unique | Rate, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> str | None:
    """The key of one call, or None if the rule is not about this call."""
    try:
        made = _make(rule.key, task, args, kwargs)
    except Exception as error:
        raise RefusedTask(
            f"{task.module_path} cannot be enqueued: its key {rule.key!r} cannot be "
            f"made from the call: {type(error).__name__}: {error}. Nothing was stored."
        ) from error
    if made is None or (isinstance(made, str) and 0 < len(made) <= KEY_LENGTH):
        return made
    raise RefusedTask(
        f"{task.module_path} cannot be enqueued: its key must be a text of 1 to "
        f"{KEY_LENGTH} characters, or None, not {made!r}. Nothing was stored."
    )


def _make(
    key: str | Callable[..., Any],
    task: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Any:
    if callable(key):
        return key(*args, **kwargs)
    context = [None] if task.takes_context else []
    bound = signature(task.func).bind(*context, *args, **kwargs)
    bound.apply_defaults()
    return key.format(**bound.arguments)


def unique(
    *, key: str | Callable[..., Any], on_conflict: str = "return_existing"
) -> Callable[[T], T]:
    """
    Let at most one job that has not ended have a key, within one backend.

    ``key`` is a format string over the task's arguments, ``"digest:{user_id}"``, or a
    callable of the call's arguments that gives a text, or None for a call that need not
    be unique. It stands on either side of ``@task``. If the key is held, enqueueing

    - ``"return_existing"``: stores nothing and gives back the holder's result;
    - ``"discard"``: stores a job that is ``discarded``, with the reason ``duplicate``;
    - ``"replace"``: discards a holder that waits and takes its place; while the holder
      runs, the new job is discarded;
    - ``"raise"``: raises DuplicateJob, an EnqueueError, and stores nothing.

    Raises ConfigurationError for another word, or a key of another kind.
    """
    if on_conflict not in CONFLICTS:
        words = ", ".join(CONFLICTS)
        raise ConfigurationError(
            f"@unique: on_conflict must be one of {words}, not {on_conflict!r}."
        )
    _check_key("@unique", key)

    def decorate(decorated: T) -> T:
        # A task is immutable, and every .using() of it shares its function.
        setattr(getattr(decorated, "func", decorated), UNIQUE, Unique(key, on_conflict))
        return decorated

    return decorate


def rate_limit(*, key: str | Callable[..., Any], rate: str) -> Callable[[T], T]:
    """
    Let so many jobs of a key start in any span of time, over all nodes.

    ``rate`` is a number of starts and a span: ``"100/m"``, ``"5/s"``, ``"1000/2h"``,
    with s, m, h or d. At most 1,000 starts are counted: a larger number is kept as the
    same rate over a shorter span. ``key`` is as for ``unique``: one word for all calls,
    or made from each. Several decorators limit a job several times. It stands on either
    side of ``@task``.

    Raises ConfigurationError for what is no rate, or no key.
    """
    found = (
        re.fullmatch(r"(\d+)/(\d*)([smhd])", rate) if isinstance(rate, str) else None
    )
    limit = int(found[1]) if found else 0
    period = int(found[2] or 1) * SECONDS[found[3]] if found else 0
    if limit < 1 or not 1 <= period <= SECONDS["d"]:
        raise ConfigurationError(
            f"@rate_limit: rate must be starts and a span of up to a day, such as "
            f'"100/m" or "10/30s", not {rate!r}.'
        )
    _check_key("@rate_limit", key)
    counted = min(limit, MOST_COUNTED)
    made = Rate(key, counted, period * counted / limit)

    def decorate(decorated: T) -> T:
        function = getattr(decorated, "func", decorated)
        setattr(function, RATES, (made, *getattr(function, RATES, ())))
        return decorated

    return decorate


def _check_key(where: str, key: Any) -> None:
    if not callable(key) and not (isinstance(key, str) and key):
        raise ConfigurationError(
            f"{where}: key must be a format string or a callable, not {key!r}."
        )
