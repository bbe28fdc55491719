"""
The signals that ask the command to stop, from its first line to its last.

The supervisor has handlers of its own while it runs. Before that a runtime may wait
for its database or import tasks for long, and as process 1 of a container it would
not hear a signal for which nobody has a handler. Afterwards, while Python takes
itself down, a signal that comes once more must not look like a violent end.
"""

from __future__ import annotations

import signal
import threading
from typing import Any

from windlass.runtime.child import ASKED


class StopAsked(BaseException):
    """A signal asked this process to stop before it had started anything."""


class StopSignals:
    """
    Notes the signals that ask to stop, while it is the context.

    ``noted`` is what came, for whoever handles signals next. Until ``defer()`` each
    also raises ``StopAsked``, wherever the program is. With ``for_good`` later signals
    are ignored when the context ends; else the handlers of before are put back.
    """

    def __init__(self, *, for_good: bool) -> None:
        self.for_good = for_good
        self.noted: list[int] = []
        self._deferred = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        # Embedded in a thread of another program, the signals are that program's.
        if threading.current_thread() is threading.main_thread():
            for number in ASKED:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        self._deferred = True
        for number, before in self._before.items():
            after = signal.SIG_DFL if before is None else before
            signal.signal(number, signal.SIG_IGN if self.for_good else after)

    def defer(self) -> list[int]:
        """From now on only note what comes, for the one who obeys it; give it back."""
        self._deferred = True
        return self.noted

    def _note(self, number: int, _frame: Any) -> None:
        self.noted.append(number)
        if not self._deferred:
            raise StopAsked
