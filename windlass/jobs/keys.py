"""
What a task says about the keys of its jobs, and the key of one call.

Imported with the package, so it knows no model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from inspect import signature
from typing import Any, TypeVar

from windlass.exceptions import ConfigurationError, RefusedTask
from windlass.jobs.retries import seconds

T = TypeVar("T")
CONFLICTS = ("return_existing", "discard", "replace", "raise")
# Where a task's function carries what @unique says.
UNIQUE = "_windlass_unique"
# And what each @rate_limit and each @concurrency says, the outermost first.
RATES = "_windlass_rates"
LIMITS = "_windlass_limits"
# A function that has any of these attributes has limits.
LIMITED = frozenset({RATES, LIMITS, "concurrency_key"})
BLOCKS = ("block", "discard")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
# The starts that a key's row remembers.
MOST_COUNTED = 1000
# The places that a key may have at once.
MOST_AT_ONCE = 10_000
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


@dataclass(frozen=True, slots=True)
class Limit:
    """What ``@concurrency`` says: so many jobs of a key run at the same time."""

    key: str | Callable[..., Any]
    limit: int
    on_conflict: str


@dataclass(frozen=True, slots=True)
class Share:
    """What ``fair_by`` says: whose job a call makes."""

    key: str | Callable[..., Any]


def limits_of(function: Any) -> tuple[Limit, ...]:
    """The concurrency limits of a task's function, said in either spelling."""
    names = vars(function)
    said: tuple[Limit, ...] = names.get(LIMITS, ())
    key = names.get("concurrency_key")
    if key is None:
        return said
    limit, duration = (
        names.get("concurrency_limit", 1),
        names.get("concurrency_duration"),
    )
    on_conflict = names.get("on_conflict", "block")
    where = f"{function.__module__}.{function.__qualname__}"
    return (*said, _limit(where, key, limit, duration, on_conflict))


def limit_keys(
    task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, list[str | None]]:
    """The keys of one call, one for each limit of its task, by the kind of limit."""
    try:
        kinds = {"rates": getattr(task.func, RATES, ()), "limits": limits_of(task.func)}
    except ConfigurationError as error:
        raise RefusedTask(f"{error} Nothing was stored.") from error
    made = {
        kind: [key_of(rule, task, args, kwargs) for rule in rules]
        for kind, rules in kinds.items()
    }
    return {kind: keys for kind, keys in made.items() if any(keys)}


def share_of(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """The share of one call, by its task's ``fair_by``, or None."""
    fair_by = getattr(task, "fair_by", None)
    return None if fair_by is None else key_of(Share(fair_by), task, args, kwargs)


def key_of(
    rule: Unique | Rate | Limit | Share,
    task: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
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


def concurrency(
    *,
    key: str | Callable[..., Any],
    limit: int = 1,
    duration: float | timedelta | None = None,
    on_conflict: str = "block",
) -> Callable[[T], T]:
    """
    Let at most ``limit`` jobs of a key run at the same time, over all nodes.

    ``key`` is as for ``unique``: one word for all calls, or made from each; it counts
    over all tasks and backends of one database. A job that may not start waits as
    ``blocked``, holding up no worker, until one of the key ends; the next is that of
    the highest priority, then the oldest. With ``on_conflict="discard"`` it is
    discarded instead, with the reason ``limit``. A running job keeps its place however
    long it runs, and gives it up when it ends or when its process is known to be dead.
    ``duration`` (seconds or a timedelta) is accepted for compatibility. Several
    decorators limit a job several times. It stands on either side of ``@task``.

    The limit is read from the code when a job is claimed, so a change reaches the jobs
    that wait. Raises ConfigurationError for what is no limit, or no key.
    """
    made = _limit("@concurrency", key, limit, duration, on_conflict)

    def decorate(decorated: T) -> T:
        function = getattr(decorated, "func", decorated)
        setattr(function, LIMITS, (made, *getattr(function, LIMITS, ())))
        return decorated

    return decorate


def _limit(where: str, key: Any, limit: Any, duration: Any, on_conflict: Any) -> Limit:
    if type(limit) is not int or not 1 <= limit <= MOST_AT_ONCE:
        raise ConfigurationError(
            f"{where}: limit must be a whole number from 1 to {MOST_AT_ONCE}, not "
            f"{limit!r}."
        )
    try:
        if duration is not None and not seconds(duration, "duration"):
            raise ValueError("duration must be longer than 0 s.")
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{where}: {error}") from error
    if on_conflict not in BLOCKS:
        raise ConfigurationError(
            f'{where}: on_conflict must be "block" or "discard", not {on_conflict!r}.'
        )
    _check_key(where, key)
    return Limit(key, limit, on_conflict)


def _check_key(where: str, key: Any) -> None:
    if not callable(key) and not (isinstance(key, str) and key):
        raise ConfigurationError(
            f"{where}: key must be a format string or a callable, not {key!r}."
        )
