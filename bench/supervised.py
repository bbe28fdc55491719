"""What is measured of processes: their logs, their beginning, and who watches them."""

from __future__ import annotations

import time
from typing import Any

from bench import machine
from bench.runs import Run
from bench.sizes import Figures, Sizes


def processes(run: Run, db: Any, sizes: Sizes) -> Figures:
    """What processes say: stored, read at any depth, and followed; how they begin."""

    def ask(operation: str, n: int, **options: Any) -> Any:
        def measure() -> Any:
            run.fresh(db)
            run.processes = options
            try:
                with run.runtime(db, {}):
                    return run.produce(db, operation, n, module="processes")
            finally:
                run.processes = {}

        return run.undisturbed(db, measure)

    rate = ask("lines", sizes.lines)["rate"]
    before = ask("lines-as-before", sizes.lines_as_before)["rate"]
    figures: Figures = {"log_lines": rate, "log_times_seed": rate / before}
    depths = ask("pages", sizes.depth)
    figures |= {"log_tail": depths["tail"], "log_page": depths["page"]}
    for part, value in ask("follow", sizes.seen).items():
        figures[f"follower_{part}"] = value
    for executor in ("fork", "spawn"):
        for part, value in ask("begin", sizes.begun, EXECUTOR=executor).items():
            figures[f"{executor}_{part}"] = value
    return figures | _supervision(run, db, sizes)


def _supervision(run: Run, db: Any, sizes: Sizes) -> Figures:
    """CPU time of all that watches many processes which do nothing."""
    n = sizes.together

    def measure() -> Figures:
        run.fresh(db)
        with run.runtime(db, {"threads": n}) as process:
            runs = run.produce(db, "wait-together", n, module="processes")["pids"]
            begun, before = time.monotonic(), machine.seconds_of(process.pid, runs)
            time.sleep(sizes.watched)
            used = machine.seconds_of(process.pid, runs) - before
            passed = time.monotonic() - begun
            ended = run.produce(db, "cancel", n, module="processes")
        return {"supervision": 100 * used / passed, "cancel_p50": ended["p50"]}

    figures: Figures = run.undisturbed(db, measure)
    return figures
