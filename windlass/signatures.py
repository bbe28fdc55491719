"""A call that is written down and not made yet: what chains and groups are made of."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Signature:
    """
    A task and the arguments it is to be called with.

    What it follows in a chain or a group hands its result on, as the first argument;
    one that ``is_immutable`` is called with its own arguments alone.
    """

    task: Any
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    is_immutable: bool = False

    def using(self, **options: Any) -> Signature:
        """The same call with other options, as ``task.using`` takes them."""
        return replace(self, task=self.task.using(**options))
