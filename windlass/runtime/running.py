"""
The jobs whose code runs now, and how code is told to stop.

A job's start is noted in the ledger before the first line of its task. Code in a
thread is stopped by an exception that Python raises in it, code on the event loop by
cancelling its asyncio task, code in a process of its own by signals. None of them may
hit whatever runs there next. So a job says when its code has ended (``done``), and
from then on nobody interrupts it; whoever interrupts says so before it looks.

What stopped an attempt is its outcome, whatever the code made of it.
"""

from __future__ import annotations

import asyncio
import ctypes
import io
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable

from windlass.db import Claimed
from windlass.exceptions import JobCancelled, JobTimeout
from windlass.jobs.policies import timeout_of
from windlass.runtime.ledger import CANCELLED, TIMED_OUT, Ledger

STOPS = (JobTimeout, JobCancelled)
Stop = JobTimeout | JobCancelled


class Held:
    """One job whose code runs, from its first line to the report of its end."""

    # How an asyncio task, or the thread that looks after a process, is told.
    task: asyncio.Task[None] | None = None
    wake: Callable[[], None] | None = None
    finished = interrupting = False
    stop: Stop | None = None
    # When it was told to stop, first and last.
    stopped_at = told_at = 0.0

    def __init__(self, job: Claimed, started: float, slot: int, deadline: float):
        self.job, self.started, self.slot = job, started, slot
        # By the steady clock; 0 for none.
        self.deadline = deadline
        self.thread = threading.get_ident()


class Running:
    """The jobs whose code runs now, by id."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.jobs: dict[str, Held] = {}
        self.interrupted: set[str] = set()
        # Who wants which job cancelled, and why; as the database says.
        self.cancels: dict[str, str] = {}
        self.asked_to_stop = False
        self.kill_at = 0.0
        # Seconds that code has to end after it was told to.
        self.grace = 5.0
        # Whether this is the copy of a process that a task has forked.
        self.is_copy = False
        os.register_at_fork(after_in_child=self._note_copy)

    def _note_copy(self) -> None:
        self.is_copy = True

    def begin(self, job: Claimed, wake: Callable[[], None] | None = None) -> Held:
        """
        Note that the next line is the task's first.

        ``wake`` tells whoever looks after the job's own process that it is to stop.
        """
        if self.cancels and job.id in self.cancels:
            raise self._cancelled(job)
        timeout = None if job.policy is None else timeout_of(job)
        deadline = 0.0 if timeout is None else time.monotonic() + timeout
        now = time.time()
        held = Held(job, now, self.ledger.start(job, now, deadline), deadline)
        if wake is not None:
            held.wake = wake
        elif deadline:
            self._guard(deadline + self.grace + 1.0)
        self.jobs[job.id] = held
        return held

    def _guard(self, latest: float) -> None:
        # Nothing in this process may get to run once the job has.
        if not self.kill_at or latest < self.kill_at:
            self.kill_at = latest
            self.ledger.kill_at(latest)

    def done(self, job: Claimed) -> None:
        """Note that the code has ended; raise what stopped it, if something did."""
        if self.is_copy:
            # The task forked, and its child comes back to where it has no business.
            os._exit(0)
        held = self.jobs.get(job.id)
        if held is not None:
            held.finished = True
            if held.interrupting or held.stop is not None:
                settle(held)
                if held.stop is not None:
                    raise held.stop

    def end(self, job: Claimed) -> int | None:
        """Note that a job has its outcome; give back the slot to clear, if it began."""
        held = self.jobs.pop(job.id, None)
        if self.cancels:
            self.cancels.pop(job.id, None)
        if held is None:
            return None
        if not held.finished:
            settle(held)
        return held.slot

    def take(self, spared: Iterable[Held] = ()) -> list[Held]:
        """Take the jobs from whatever runs them, so that nobody else reports them."""
        spare = {held.job.id for held in spared}
        taken = []
        for id in list(self.jobs):
            if id in spare:
                continue
            # Said first: the thread looks here only if it finds its job taken.
            self.interrupted.add(id)
            held = self.jobs.pop(id, None)
            if held is None:
                self.interrupted.discard(id)
            else:
                taken.append(held)
        return taken

    def stop_asked(self, job: Claimed) -> bool:
        """Whether a job should come to an end soon."""
        held = self.jobs.get(job.id)
        return self.asked_to_stop or held is None or held.stop is not None

    # Stopping code

    def stop_if_due(self, held: Held, *, now: float) -> None:
        """Tell code to stop if it has run too long or if someone cancelled its job."""
        if held.deadline and now >= held.deadline:
            self._stop(held, self._timed_out(held), TIMED_OUT, now)
        elif held.job.id in self.cancels:
            self._stop(held, self._cancelled(held.job), CANCELLED, now)

    def _timed_out(self, held: Held) -> JobTimeout:
        job = held.job
        return JobTimeout(
            f"Job {job.id} ({job.task_path}): attempt {job.attempts} ran longer than "
            f"its timeout of {timeout_of(job):g} s, so it was stopped."
        )

    def _cancelled(self, job: Claimed) -> JobCancelled:
        why = self.cancels.get(job.id)
        return JobCancelled(
            f"Job {job.id} ({job.task_path}) was cancelled"
            + (f": {why}" if why else ".")
        )

    def _stop(self, held: Held, stop: Stop, state: int, now: float) -> None:
        stop.add_note(f"When it was stopped, its code was here:\n{stack(held)}")
        held.stopped_at = held.told_at = now
        held.stop = stop
        self.ledger.mark(held.slot, state)
        interrupt(held)


def interrupt(held: Held) -> None:
    """Raise what stops a job in its code, unless that has ended."""
    assert held.stop is not None
    held.interrupting = True
    try:
        if held.finished:
            return
        if held.wake is not None:
            held.wake()
        elif held.task is not None:
            held.task.get_loop().call_soon_threadsafe(_cancel, held)
        else:
            _raise_in(held.thread, type(held.stop))
    finally:
        held.interrupting = False


def settle(held: Held) -> None:
    """Let nothing interrupt the calling thread for this job's sake any more."""
    try:
        _settle(held)
    except STOPS:
        # It arrived in there, between two lines. It is in held.stop as well.
        _settle(held)


def _settle(held: Held) -> None:
    # A function of its own: Python's compiler leaves the jumps of a loop out of the
    # try block around it, and it is at jumps that such an exception arrives.
    held.finished = True
    while held.interrupting:
        time.sleep(0)
    if held.stop is not None and held.thread == threading.get_ident():
        _raise_in(held.thread, None)


def _cancel(held: Held) -> None:
    # On the event loop, so between two steps of its coroutines.
    if not held.finished and held.task is not None:
        held.task.cancel()


def _raise_in(thread: int, kind: type[BaseException] | None) -> None:
    # https://docs.python.org/3/c-api/init.html#c.PyThreadState_SetAsyncExc
    exception = ctypes.py_object(kind) if kind is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), exception)


def stack(held: Held) -> str:
    """Where a job's code is at this moment."""
    if held.wake is not None:
        return "  in a process of its own"
    if held.task is not None:
        text = io.StringIO()
        held.task.print_stack(file=text)
        return text.getvalue()
    frame = sys._current_frames().get(held.thread)
    return "".join(traceback.format_stack(frame)) if frame else "  (it has ended)"
