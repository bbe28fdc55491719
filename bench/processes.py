"""
The user of processes: starts some, reads their logs, and times it.

``python -m bench.processes OPERATION N OUT``; the answer is JSON in the file OUT.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from bench.produce import Answer, milliseconds, perform

PAGE, LOOKS, PATIENCE = 500, 200, 120.0


def lines(n: int) -> Answer:
    """One process logs n lines: how many a second are stored."""
    return {"rate": _rate("lines", n)}


def lines_as_before(n: int) -> Answer:
    """The same, each line as djprocess stores it."""
    return {"rate": _rate("lines_as_before", n)}


def _rate(kind: str, n: int) -> float:
    process = _ended(_started(kind, n))
    found = process.logs.filter(message__contains=" took ").count()
    if found != n:
        raise AssertionError(f"{found} lines are stored, of {n}.")
    # The end is said when the last line is stored.
    return float(n / (process.finished - process.started).total_seconds())


def pages(n: int) -> Answer:
    """Ask for the first lines and for the last of n, in turns; the share of speed."""
    process = _model().objects.create(kind="lines")
    _store(process, n)
    first, last = 0, n - PAGE
    tails = _shares(process.tail, (first, PAGE), (last, PAGE))
    numbered = _shares(_page(process), (1, 50), (n // 50, 50))
    return {"tail": tails, "page": numbered}


def _page(process: Any) -> Callable[..., list[Any]]:
    return lambda page, size: list(process.paginate_logs(page, size))


def _shares(ask: Callable[..., list[Any]], *places: Any) -> float:
    """How fast the second place is asked for, in percent of the first."""
    times: list[list[float]] = [[], []]
    for _ in range(LOOKS):
        for place, taken in zip(places, times, strict=True):
            begun = time.perf_counter()
            found = ask(*place)
            taken.append(time.perf_counter() - begun)
            if len(found) != place[1]:
                raise AssertionError(f"{len(found)} lines, not {place[1]}.")
    near, far = (statistics.median(each) for each in times)
    return 100 * near / far


def _store(process: Any, n: int) -> None:
    from django.db import connection

    table = process.logs.model._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} (process_id, sequence, level, stream, message,"
            " attempt, created) WITH RECURSIVE g (n) AS"
            f" (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < {n})"
            " SELECT %s, n, 'info', 'log', 'a line', 1, CURRENT_TIMESTAMP FROM g",
            [process.pk],
        )
        if connection.vendor == "postgresql":
            cursor.execute(f"VACUUM ANALYZE {table}")


def follow(n: int) -> Answer:
    """Follow a process that says n times what time it is: how old that is by then."""
    ages = []
    for line in _started("speak", n).stream():
        if line.stream == "log":
            ages.append(time.time() - float(line.message))
    if len(ages) != n:
        raise AssertionError(f"{len(ages)} lines were seen, of {n}.")
    return dict(milliseconds(ages))


def begin(n: int) -> Answer:
    """From ``start()`` to the first line of ``run()``, n times, one at a time."""
    times = []
    for _ in range(n):
        process = _model().objects.create(kind="begin")
        begun = time.time()
        process.start()
        _ended(process)
        line = process.logs.get(stream="log")
        times.append(float(line.message) - begun)
    # The first of a worker also imports what the others find.
    return dict(milliseconds(times[1:]))


def wait_together(n: int) -> Answer:
    """Start n processes that wait for a minute; their pids when all of them do."""
    for _ in range(n):
        _model().objects.create(kind="wait", number=60).start()
    running = _model().objects.filter(status="running")
    deadline = time.monotonic() + PATIENCE
    while running.count() < n:
        if time.monotonic() > deadline:
            raise AssertionError(f"{running.count()} of {n} are running.")
        time.sleep(0.1)
    return {"pids": list(running.values_list("worker_pid", flat=True))}


def cancel(n: int) -> Answer:
    """Cancel what runs; how long the calls took, and all that is gone then."""
    times = []
    found = list(_model().objects.filter(status="running"))
    for process in found:
        begun = time.perf_counter()
        process.cancel()
        times.append(time.perf_counter() - begun)
    for process in found:
        if process.wait(PATIENCE) != "cancelled":
            raise AssertionError(f"{process} was to be cancelled.")
    return dict(milliseconds(times))


def _model() -> Any:
    from bench.measured.models import Measured

    return Measured


def _started(kind: str, n: int) -> Any:
    process = _model().objects.create(kind=kind, number=n)
    process.start()
    return process


def _ended(process: Any) -> Any:
    if process.wait(PATIENCE) != "succeeded":
        raise AssertionError(f"{process}: {process.error}")
    return process


if __name__ == "__main__":
    perform(
        {
            "lines": lines,
            "lines-as-before": lines_as_before,
            "pages": pages,
            "follow": follow,
            "begin": begin,
            "wait-together": wait_together,
            "cancel": cancel,
        }
    )
