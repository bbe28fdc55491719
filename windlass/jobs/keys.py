"""
What a task says about the keys of its jobs, and the key of one call.

Imported with the package, so it knows no model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, TypeVar

from windlass.exceptions import ConfigurationError, RefusedTask

T = TypeVar("T")
CONFLICTS = ("return_existing", "discard", "replace", "raise")
# Where a task's function carries what @unique says.
UNIQUE = "_windlass_unique"
KEY_LENGTH = 255


@dataclass(frozen=True, slots=True)
class Unique:
    """What ``@unique`` says about a task."""

    key: str | Callable[..., Any]
    on_conflict: str

    def key_of(
        self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> str | None:
        """The key of one call, or None if this call need not be unique."""
        try:
            made = self._make(task, args, kwargs)
        except Exception as error:
            raise RefusedTask(
                f"{task.module_path} cannot be enqueued: its unique key {self.key!r} "
                f"cannot be made from the call: {type(error).__name__}: {error}. "
                "Nothing was stored."
            ) from error
        if made is None or (isinstance(made, str) and 0 < len(made) <= KEY_LENGTH):
            return made
        raise RefusedTask(
            f"{task.module_path} cannot be enqueued: its unique key must be a text of "
            f"1 to {KEY_LENGTH} characters, or None, not {made!r}. Nothing was stored."
        )

    def _make(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if callable(self.key):
            return self.key(*args, **kwargs)
        context = [None] if task.takes_context else []
        bound = signature(task.func).bind(*context, *args, **kwargs)
        bound.apply_defaults()
        return self.key.format(**bound.arguments)


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
    if not callable(key) and not (isinstance(key, str) and key):
        raise ConfigurationError(
            f"@unique: key must be a format string or a callable, not {key!r}."
        )

    def decorate(decorated: T) -> T:
        # A task is immutable, and every .using() of it shares its function.
        setattr(getattr(decorated, "func", decorated), UNIQUE, Unique(key, on_conflict))
        return decorated

    return decorate
