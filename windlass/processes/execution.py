"""
Running a process: claim it, call ``run()``, say how it ended.

The same steps for whoever runs it. An attempt has a token; each of its moves names it,
so what comes too late, after a timeout, a cancel or a loss, moves nothing.
"""

from __future__ import annotations

import traceback
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from windlass.jobs.retries import Cancel, Retry, Snooze
from windlass.processes import capture, moves, sinks
from windlass.processes.lines import SYSTEM, line

if TYPE_CHECKING:
    from windlass.processes.models import BaseProcess
    from windlass.processes.sinks import Sink


def execute(process: BaseProcess) -> None:
    """Run a process in the calling thread; see ``BaseProcess.execute``."""
    token = f"here/{uuid.uuid4().hex}"
    if not moves.begin(process, token):
        status = moves.sync(process)
        if status == moves.CANCELLED:
            return
        raise RuntimeError(
            f"{type(process).__name__} {process.pk} is {status}, and only what is "
            "pending can be executed."
        )
    with sinks.local(process) as sink:
        capture.hear_records()
        run(process, token, sink)


def run(
    process: BaseProcess,
    token: str,
    sink: Sink,
    *,
    body: Callable[[], Any] | None = None,
    may_repeat: bool = False,
    is_told: Callable[[], bool] = lambda: False,
) -> None:
    """
    Run what was claimed by a token, to the end of the attempt.

    ``body`` stands for ``run()``, where that is in another interpreter. Whoever
    ``is_told`` to stop leaves it to those who told to say what became of it.
    """
    sink.log(line("Started.", stream=SYSTEM))
    try:
        try:
            (body or process.run)()
        finally:
            # What it printed last comes before what is said of its end.
            capture.flush_output()
    except BaseException as error:
        if not is_told():
            _fail(process, token, sink, error, may_repeat=may_repeat)
        raise
    if not is_told():
        sink.log(line("Finished.", stream=SYSTEM))
        # Whoever sees the end may look for the last line.
        sink.flush()
        moves.end(process, moves.holds(token), moves.SUCCEEDED)


def _fail(
    process: BaseProcess,
    token: str,
    sink: Sink,
    error: BaseException,
    *,
    may_repeat: bool,
) -> None:
    text = said_by(error)
    level = "warning" if isinstance(error, Cancel | Snooze) else "error"
    sink.log(line(text, level=level, stream=SYSTEM))
    sink.flush()
    moves.end(
        process,
        moves.holds(token),
        _status_after(error, may_repeat=may_repeat),
        error=text,
        traceback="".join(traceback.format_exception(error)),
    )


def _status_after(error: BaseException, *, may_repeat: bool) -> str:
    if isinstance(error, Cancel):
        return moves.CANCELLED
    if isinstance(error, Snooze) or (isinstance(error, Retry) and may_repeat):
        return moves.PENDING
    return moves.PENDING if may_repeat else moves.FAILED


def said_by(error: BaseException) -> str:
    """The text of an exception, or its name where it has none."""
    try:
        text = str(error)
    except Exception as broken:  # noqa: BLE001 - a __str__ may raise anything
        return f"{type(error).__name__} (its text cannot be shown: {type(broken)})"
    is_exit = isinstance(error, SystemExit | KeyboardInterrupt)
    return f"{type(error).__name__}: {text}" if is_exit or not text else text
