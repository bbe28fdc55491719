"""
The life of a job: every state it can be in and every way it can move.

A job is one row. A move of a held job is one statement that names the node and the
claim it belongs to, so when two processes disagree the database picks one and the
other gets StaleJob. Only a claim raises the claim number; attempts may be given
back, so they fence nothing. Nothing outside this module moves a job.

Read TRANSITIONS first; the functions below are one per line of that table. What
happens to jobs by the thousand (complete, fail, snooze, release) is said in two
halves: a small value that describes the move, and ``record``, which writes many.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db import transaction

from windlass.db import (
    Advanced,
    Claimed,
    Dialect,
    Ended,
    Lane,
    NewJob,
    Returned,
    cancels,
    rare,
    waits,
)
from windlass.exceptions import StaleJob
from windlass.jobs import followers
from windlass.jobs.holding import block, divert, hand_on, unblock
from windlass.jobs.transitions import LIVE, REVIVABLE, TRANSITIONS, WAITING
from windlass.models.history import worker_id
from windlass.models.jobs import Reason, State

__all__ = ["LIVE", "TRANSITIONS", "WAITING", "block", "divert", "hand_on", "unblock"]

# How many processes a job may take with it, unless the options say otherwise.
CRASH_LIMIT = 3
TOO_MANY = "\nIts process was gone {} times. Find out why before you retry it.\n"

Move = Ended | Returned | Advanced


class Attempt(NamedTuple):
    """One execution of a held job: when it began and ended, in epoch seconds."""

    job: Claimed
    node: int
    started: float
    ended: float


def enqueue(
    db: Dialect, jobs: Sequence[NewJob], *, notify: bool = True
) -> list[datetime]:
    """Store jobs in the caller's transaction, all or none."""
    if len(jobs) == 1:
        if jobs[0].plan is not None:
            return [rare.insert_planned(db, jobs[0], notify=notify)]
        return [db.insert(jobs[0], notify=notify)]
    return db.insert_many(jobs, notify=notify)


def enqueueing(db: Dialect, jobs: Sequence[NewJob], *, notify: bool) -> Any:
    """Enqueue around what is done with the jobs' times; see ``Dialect.storing``."""
    return db.storing(jobs, notify=notify)


def enqueue_unique(db: Dialect, job: NewJob, key: str, *, notify: bool) -> str | None:
    """Store a job unless another one holds its key; give back the holder's id."""
    return rare.insert_unique(db, job, key, notify=notify)


def refuse(db: Dialect, job: NewJob, key: str, *, reason: str) -> None:
    """Store a job that a limit or a unique key does not let in, as discarded."""
    rare.refuse(db, job, key, reason=reason)


def claim(
    db: Dialect, node: int, backend_alias: str, lanes: Sequence[Lane], limit: int
) -> list[Claimed]:
    """Hold ready jobs for a node; each gets a new claim number and an attempt."""
    return db.claim(node, backend_alias, lanes, limit)


# The end of an attempt, as values for record()


def complete(attempt: Attempt, return_value: str | None) -> Ended:
    """End a job that did what it should."""
    job = attempt.job
    times = (attempt.started, attempt.ended)
    end = Ended(job.id, job.claim, "succeeded", "", *times, return_value, None)
    return end if job.policy is None else _followed(end, job)


def advance(attempt: Attempt, entry: dict[str, Any], **following: Any) -> Advanced:
    """Put a job whose step is done back to waiting, with what its next step needs."""
    job = attempt.job
    following |= {"history": _with_entry(job, entry)}
    ran = attempt.ended - attempt.started
    return Advanced(job.id, job.claim, ran=ran, **following)


def fail(attempt: Attempt, entry: dict[str, Any], *, retry_in: float | None) -> Move:
    """Count a failed attempt: wait for another one, or end with the reason."""
    if retry_in is not None:
        job = attempt.job
        return Returned(job.id, job.claim, retry_in, _with_entry(job, entry))
    return _end(attempt, State.FAILED, entry["cause"], entry)


def snooze(
    attempt: Attempt, delay: float, *, awaits: tuple[str, int] | None = None
) -> Returned:
    """Put a running job off, as if this attempt had never started."""
    job = attempt.job
    return Returned(job.id, job.claim, delay, None, attempt_back=1, awaits=awaits)


def release(job: Claimed, *, delay: float = 0.0) -> Returned:
    """Give a running job back, as if this attempt had never started."""
    return Returned(job.id, job.claim, delay, None, attempt_back=1)


def cancel_running(attempt: Attempt, entry: dict[str, Any]) -> Ended:
    """End a running job as cancelled; its code must have ended."""
    return _end(attempt, State.CANCELLED, Reason.CANCELLED, entry)


def expire(job: Claimed, *, now: float, reason: str = Reason.EXPIRED) -> Ended:
    """Discard a job that must not start any more, as if never claimed."""
    end = Ended(job.id, job.claim, "discarded", str(reason), None, now, None, None)
    return _followed(end._replace(attempt_back=1), job)


def with_entry(move: Move, job: Claimed, entry: dict[str, Any]) -> Move:
    """The same move, with its attempt in the history."""
    return move._replace(history=_with_entry(job, entry))


def interrupt(attempt: Attempt, entry: dict[str, Any]) -> Move:
    """
    Take a started job from a worker that must stop now.

    One that may run again is released; one that may not has been started, and is
    never started twice.
    """
    if may_run_again(attempt.job):
        return release(attempt.job)
    return _end(attempt, State.FAILED, Reason.INTERRUPTED, entry)


def record(db: Dialect, node: int, moves: Sequence[Move]) -> set[str]:
    """
    Write moves of held jobs, one statement for each kind.

    Gives back the ids whose claim still held. The others were moved by someone
    else meanwhile: for them nothing was written.
    """
    ends = [move for move in moves if type(move) is Ended]
    returns = [move for move in moves if type(move) is Returned]
    moved: set[str] = set()
    if followed := [end.id for end in ends if end.is_followed]:
        moved = _finish_followed(db, node, ends, followed)
    elif ends:
        moved = db.finish(node, ends)
    if cancelled := [end.id for end in ends if end.state == "cancelled"]:
        # What was asked for is done, and a retry is a life that nobody cancelled.
        cancels.forget_cancels(db, cancelled)
    if returns:
        moved |= waits.put_back(db, node, returns)
    if steps := [move for move in moves if type(move) is Advanced]:
        moved |= db.advance(node, steps)
    return moved


def _finish_followed(
    db: Dialect, node: int, ends: Sequence[Ended], followed: Sequence[str]
) -> set[str]:
    with db.transaction():
        moved = db.finish(node, ends)
        followers.tell_ended(db, [id for id in followed if id in moved])
    return moved


def record_one(db: Dialect, node: int, move: Move) -> None:
    """Write one move of a held job, or raise StaleJob."""
    if not record(db, node, [move]):
        raise StaleJob(
            f"Job {move.id}: claim {move.claim} of node {worker_id(node)} no longer "
            "holds it, so its report was refused and nothing was written."
        )


# Recovery
def rescue(
    db: Dialect, node: int, jobs: Iterable[Claimed], decide: Callable[[Claimed], Move]
) -> dict[str, Move]:
    """
    Recover jobs whose node is gone; give back what became of each.

    A rescued job may still be running somewhere we cannot see. Its next claim has a
    new number, so whatever that copy reports will be refused.
    """
    moves = {job.id: decide(job) for job in jobs}
    moved = record(db, node, list(moves.values()))
    return {id: move for id, move in moves.items() if id in moved}


def crash(
    attempt: Attempt, entry: dict[str, Any], *, crash_limit: int = CRASH_LIMIT
) -> Move:
    """
    Count an attempt whose process is gone: another one, or the end.

    A job that has taken ``crash_limit`` processes with it would do so for ever.
    """
    job = attempt.job
    crashes = job.crashes + 1
    if crashes < crash_limit and may_run_again(job):
        return Returned(job.id, job.claim, 0.0, _with_entry(job, entry), crashed=1)
    reason = entry["cause"]
    if crashes >= crash_limit:
        reason = Reason.CRASHED
        text = entry.get("traceback", "") + TOO_MANY.format(crashes)
        entry = {**entry, "traceback": text}
    return _end(attempt, State.FAILED, reason, entry)._replace(crashed=1)


def may_run_again(job: Claimed) -> bool:
    """Whether a started attempt that came to no end may be followed by another."""
    on_lost = json.loads(job.policy).get("on_lost") if job.policy else None
    if on_lost == "fail":
        return False
    return on_lost == "retry" or job.attempts < job.max_attempts


def hasten(db: Dialect, ids: Sequence[str]) -> set[str]:
    """Make scheduled jobs ready before their time."""
    return rare.hasten(db, ids)


def cancel(db: Dialect, ids: Sequence[str], *, why: str = "") -> set[str]:
    """Cancel jobs that no node holds, and forget that it was asked for."""
    state, reason = State.CANCELLED, Reason.CANCELLED
    with transaction.atomic(using=db.database):
        moved = rare.end_waiting(db, ids, why=why, state=state, reason=reason)
        if moved:
            cancels.forget_cancels(db, list(moved))
            followers.tell_ended(db, list(moved))
    return moved


def discard(db: Dialect, ids: Sequence[str], *, reason: str = "") -> set[str]:
    """Throw away jobs that have not started, and jobs that failed."""
    with transaction.atomic(using=db.database):
        waiting = rare.end_waiting(db, ids, state=State.DISCARDED, reason=reason)
        followers.tell_ended(db, list(waiting))
    return waiting | rare.discard_failed(db, [id for id in ids if id not in waiting])


def retry(db: Dialect, ids: Sequence[str], *, at: datetime | None = None) -> set[str]:
    """Let jobs that did not succeed live again: fresh budget, history kept."""
    with transaction.atomic(using=db.database):
        revived = rare.revive(db, ids, states=REVIVABLE, at=at)
        if revived:
            # Who asked for a cancel meant the life before.
            cancels.forget_cancels(db, list(revived))
            followers.tell_revived(db, list(revived))
    return revived


def prune(db: Dialect, *, before: datetime, **which: Any) -> list[datetime]:
    """Delete the oldest ended jobs, see ``rare.prune``; give back their ends."""
    return rare.prune(db, before=before, **which)


def _end(attempt: Attempt, state: str, reason: str, entry: dict[str, Any]) -> Ended:
    job = attempt.job
    history = _with_entry(job, entry)
    times = (attempt.started, attempt.ended)
    end = Ended(job.id, job.claim, str(state), str(reason), *times, None, history)
    return _followed(end, job)


def _followed(end: Ended, job: Claimed) -> Ended:
    return end._replace(is_followed=True) if followers.is_followed(job) else end


def _with_entry(job: Claimed, entry: dict[str, Any]) -> str:
    history = json.loads(job.history) if job.history else []
    return json.dumps([*history, entry])
