"""How far a run has come: what is stored of it, and a bar that reports as tqdm does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from django.utils import timezone

if TYPE_CHECKING:
    from windlass.processes.models import BaseProcess

T = TypeVar("T")


def said(
    process: BaseProcess, current: float, total: float | None, message: object
) -> dict[str, Any]:
    """What is stored: the numbers, the share of the whole, and seconds still to go."""
    for name, value in (("current", current), ("total", total)):
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise TypeError(f"{name} must be a number, not {value!r}.")
    if current is None:
        raise TypeError("current must be a number, not None.")
    now = timezone.now()
    share = min(1.0, current / total) if total else None
    eta = None
    if share and process.started:
        passed = (now - process.started).total_seconds()
        eta = round(passed * (1 - share) / share, 1)
    return {
        "current": current,
        "total": total,
        "message": str(message),
        "percent": None if share is None else round(100 * share, 1),
        "eta": eta,
        "at": now.isoformat(),
    }


class Bar(Generic[T]):
    """
    What ``track()`` gives: used as a ``tqdm`` is, by a loop or by ``update()``.

    Of tqdm's options ``total`` and ``desc`` mean something; the rest is about a
    terminal, and ignored.
    """

    # Seconds between reports; the sink stores them no faster either.
    EVERY = 0.1

    def __init__(
        self,
        iterable: Iterable[T] | None = None,
        desc: str = "",
        total: float | None = None,
        *,
        report: Callable[..., None],
        **ignored: Any,
    ) -> None:
        if total is None and hasattr(iterable, "__len__"):
            total = len(iterable)  # type: ignore[arg-type]
        self.iterable, self.desc, self.total, self.n = iterable, desc, total, 0.0
        self._report, self._reported_at = report, 0.0

    def __iter__(self) -> Iterator[T]:
        if self.iterable is None:
            raise TypeError("There is nothing to iterate over: call update() instead.")
        with self:
            for item in self.iterable:
                yield item
                self.update()

    def __enter__(self) -> Bar[T]:
        self.refresh()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def update(self, n: float = 1) -> None:
        """Count so many more."""
        self.n += n
        if time.monotonic() >= self._reported_at + self.EVERY:
            self.refresh()

    def set_description(self, desc: str = "", refresh: bool = True) -> None:
        """Say what it is about."""
        self.desc = desc
        if refresh:
            self.refresh()

    def refresh(self) -> None:
        """Report now."""
        self._reported_at = time.monotonic()
        whole = int(self.n) if self.n == int(self.n) else self.n
        self._report(whole, self.total, self.desc)

    def close(self) -> None:
        """Report the last number."""
        self.refresh()
