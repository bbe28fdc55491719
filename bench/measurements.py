"""
What is measured, one function a subject; each gives figures by name.

Pairs that are compared are taken one after the other, so that what slows the machine
slows both. A name that ends in ``_raw`` is the raw loop's figure for the name before.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean
from typing import Any

from bench import marks
from bench.produce import WARM_UP, milliseconds
from bench.runs import Run, drain
from bench.sizes import Figures, Sizes
from bench.supervised import processes

# One thread runs tasks that never wait fastest; three, the default, cost a little.
ONE_THREAD = {"threads": 1}


def enqueue(run: Run, db: Any, sizes: Sizes) -> Figures:
    """Single calls: in autocommit, and inside one transaction."""
    figures: Figures = {}
    n = sizes.enqueue
    for name, operation in (
        ("enqueue", "one-by-one"),
        ("enqueue_in_transaction", "in-transaction"),
    ):
        for suffix, module in (("", "produce"), ("_raw", "raw")):
            answer = _producer(run, db, operation, n, module)
            figures[name + suffix] = answer["rate"]
            if not suffix and "p50" in answer:
                figures |= {f"{name}_p50": answer["p50"], f"{name}_p99": answer["p99"]}
    return figures


def enqueue_all(run: Run, db: Any, sizes: Sizes) -> Figures:
    """10,000 jobs in one call."""
    ours = _producer(run, db, "all-at-once", sizes.enqueue_all, "produce")
    raw = _producer(run, db, "all-at-once", sizes.enqueue_all, "raw")
    return {"enqueue_all": ours["rate"], "enqueue_all_raw": raw["rate"]}


def _producer(run: Run, db: Any, operation: str, n: int, module: str) -> Any:
    def measure() -> Any:
        run.fresh(db)
        db.settle()
        return run.produce(db, operation, n, module=module)

    return run.undisturbed(db, measure)


def drains(run: Run, db: Any, sizes: Sizes) -> Figures:
    """A full queue with one and with two worker processes."""
    figures: Figures = {}
    raw = db.kind != "mariadb"
    for count in (1, 2):
        n = sizes.drain * count
        name = f"drain_{count}"
        figures[name] = drain(run, db, n, processes=count, worker=ONE_THREAD)
        if raw:
            figures[f"{name}_raw"] = drain(run, db, n, processes=count, raw=True)
        if sizes.thorough:
            for log in ("default", "shown"):
                figures[f"{name}_log_{log}"] = drain(
                    run, db, n, processes=count, worker=ONE_THREAD, log=log
                )
    if sizes.thorough:
        figures["drain_1_defaults"] = drain(run, db, sizes.drain)
    return figures


def latency(run: Run, db: Any, sizes: Sizes) -> Figures:
    """An idle runtime: from the enqueue call to the first line of the task."""
    figures = _latency(run, db, sizes, "latency", "")
    if db.kind == "postgresql":
        figures |= _latency(run, db, sizes, "latency", "_raw")
    return figures


def _latency(run: Run, db: Any, sizes: Sizes, name: str, suffix: str) -> Figures:
    all_marks = 1 + WARM_UP + sizes.latency

    def measure() -> Figures:
        run.fresh(db)
        waiting = run.raw(db, "listen", all_marks) if suffix else run.runtime(db, {})
        with waiting:
            # The producer's own warm-up comes in between, so begin with one alone.
            run.produce(db, "fill", 1)
            run.wait(lambda: marks.count(run.marks) >= 1, "the first job")
            calls = dict(run.produce(db, "paced", sizes.latency)["calls"])
            run.wait(lambda: marks.count(run.marks) >= all_marks, "the last job")
            run.wait(lambda: suffix or not db.busy(), "the last end")
        starts = marks.read(run.marks)[-sizes.latency :]
        waited = [at - calls[number] for number, at in starts]
        if len(waited) != len({number for number, _at in starts}):
            raise AssertionError("A job ran twice.")
        found = milliseconds(waited)
        return {f"{name}_{part}{suffix}": value for part, value in found.items()}

    figures: Figures = run.undisturbed(db, measure)
    return figures


def coroutines(run: Run, db: Any, sizes: Sizes) -> Figures:
    """Coroutine tasks that wait 0.1 s each, side by side."""
    n = sizes.coroutines
    worker = {"threads": 1, "async_concurrency": n}
    return {"coroutines": drain(run, db, n, worker=worker, fill="fill-coroutines")}


def backlog(run: Run, db: Any, sizes: Sizes) -> Figures:
    """
    The drain beside a million jobs of next year, beside a million that have ended, and
    while a million are deleted because their time is over.
    """

    def scheduled() -> None:
        run.produce(db, "fill-scheduled", 1)
        changes = {"id": db.ascending_id, "available_at": db.a_year_away}
        db.multiply("windlass_live", sizes.others, **changes)

    def ended() -> None:
        run.produce(db, "fill", 1)
        with run.runtime(db, ONE_THREAD, "--drain") as process:
            process.wait(60)
        db.multiply("windlass_ended", sizes.others, id=db.ascending_id)

    def over() -> None:
        run.produce(db, "fill", 1)
        with run.runtime(db, ONE_THREAD, "--drain") as process:
            process.wait(60)
        changes = {"id": db.ascending_id, "finished_at": db.two_days_ago}
        db.multiply("windlass_ended", sizes.others, **changes)

    def beside(prepare: Callable[[], None] = lambda: None, may_go: int = 0) -> float:
        return drain(
            run, db, sizes.beside, worker=ONE_THREAD, prepare=prepare, may_go=may_go
        )

    before = beside()
    figures = {"beside_scheduled": beside(scheduled), "beside_ended": beside(ended)}
    figures["beside_pruning"] = beside(over, sizes.others)
    alone = mean([before, beside()]) if sizes.thorough else before
    return {name: 100 * rate / alone for name, rate in figures.items()}


def limits(run: Run, db: Any, sizes: Sizes) -> Figures:
    """One hot key; ten thousand keys; and the drain beside a million that wait."""

    def blocked() -> None:
        run.produce(db, "fill-scheduled", 1)
        changes = {"id": db.ascending_id, "available_at": db.a_year_away}
        # Without rows in the line of a key, or the limiter would wake them.
        db.multiply("windlass_live", sizes.others, **changes, hold="'limit'")

    def rate(fill: str, n: int, prepare: Callable[[], None] = lambda: None) -> float:
        return drain(run, db, n, worker=ONE_THREAD, fill=fill, prepare=prepare)

    figures = {"hot_key": rate("fill-hot", sizes.hot)}
    before = rate("fill", sizes.keyed)
    keyed = rate("fill-keyed", sizes.keyed)
    beside = rate("fill", sizes.keyed, blocked)
    alone = mean([before, rate("fill", sizes.keyed)]) if sizes.thorough else before
    figures["keys"] = 100 * keyed / alone
    figures["beside_blocked"] = 100 * beside / alone
    return figures


def snapshot(run: Run, db: Any, sizes: Sizes) -> Figures:
    """The drain while another session holds an old snapshot open."""
    normal = drain(run, db, sizes.snapshot, worker=ONE_THREAD)
    under = drain(
        run, db, sizes.snapshot, worker=ONE_THREAD, beside=lambda: db.snapshot()
    )
    return {"old_snapshot": 100 * under / normal}


def schedules(run: Run, db: Any, sizes: Sizes) -> Figures:
    """A scheduler's look at 10,000 schedules of which none is due."""
    answer = _producer(run, db, "poll-schedules", sizes.schedules, "produce")
    return {f"schedules_{part}": answer[part] for part in ("p50", "p99")}


def waiting(run: Run, db: Any, sizes: Sizes) -> Figures:
    """From the end of a job to the return of whoever waits for it, one at a time."""

    def measure() -> Figures:
        run.fresh(db)
        with run.runtime(db, {}):
            answer = run.produce(db, "waits", sizes.waits)
        return {f"waiting_{part}": answer[part] for part in ("p50", "p99")}

    figures: Figures = run.undisturbed(db, measure)
    return figures


def steps(run: Run, db: Any, sizes: Sizes) -> Figures:
    """Jobs of three steps that do nothing but count in their workspace."""
    n = 3 * sizes.steps
    may_go = n - sizes.steps
    rate = drain(run, db, n, worker=ONE_THREAD, fill="fill-steps", may_go=may_go)
    return {"steps": rate}


SUBJECTS: dict[str, Callable[[Run, Any, Sizes], Figures]] = {
    "enqueue": enqueue,
    "enqueue-all": enqueue_all,
    "drain": drains,
    "latency": latency,
    "coroutines": coroutines,
    "backlog": backlog,
    "snapshot": snapshot,
    "schedules": schedules,
    "waiting": waiting,
    "steps": steps,
    "limits": limits,
    "processes": processes,
}
