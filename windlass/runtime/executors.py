"""
Where tasks run inside a worker process: threads, and one event loop.

Each outcome goes to the flusher, whatever happened. Task code cannot end these
threads. A thread also looks after each job that runs in a process of its own.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from queue import Empty, SimpleQueue

from asgiref.sync import sync_to_async
from django.db import close_old_connections, connections

from windlass.db import Claimed
from windlass.jobs import execution, outcomes, resolving
from windlass.jobs.outcomes import Executor, Outcome
from windlass.runtime.flusher import Report
from windlass.runtime.hygiene import tidy_connections
from windlass.runtime.processes import Processes
from windlass.runtime.running import Running

logger = logging.getLogger("windlass")

Deliver = Callable[[Report], None]


class Threads:
    """A fixed number of threads that take jobs from one queue."""

    def __init__(
        self,
        executor: Executor,
        running: Running,
        deliver: Deliver,
        *,
        count: int,
        processes: Processes | None = None,
        may_begin: Callable[[], bool] = lambda: True,
    ) -> None:
        self.executor, self.running, self.deliver = executor, running, deliver
        self.processes, self.may_begin = processes, may_begin
        self.jobs: SimpleQueue[Claimed | None] = SimpleQueue()
        # How often the database was away; connections older than that are dropped.
        self.outages = 0
        self.paused = threading.Event()
        # When a thread last became free for another job.
        self.freed_at = time.monotonic()
        self.threads = [
            threading.Thread(
                target=self._work, name=f"windlass-thread-{n + 1}", daemon=True
            )
            for n in range(count)
        ]

    def start(self) -> None:
        """Let the threads take jobs."""
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        """Let each thread end after its job in hand."""
        for _thread in self.threads:
            self.jobs.put(None)

    def unstarted(self) -> list[Claimed]:
        """Take back the jobs that no thread has begun."""
        taken: list[Claimed] = []
        try:
            while (job := self.jobs.get_nowait()) is not None:
                taken.append(job)
        except Empty:
            pass
        return taken

    def _work(self) -> None:
        running, deliver = self.running, self.deliver
        outages = 0
        while (job := self._next()) is not None:
            if outages != self.outages:
                # The first job to use a connection from before would pay for that.
                outages = self.outages
                connections.close_all()
            while not self.may_begin():
                # The lease is in doubt: others may have taken this job over.
                self.paused.wait(PAUSE)
            outcome = self._run(job)
            slot = running.end(job)
            self.freed_at = time.monotonic()
            if slot is not None or job.id not in running.interrupted:
                deliver(Report(job, outcome.move, outcome, slot))
            tidy_connections()
        connections.close_all()

    def _run(self, job: Claimed) -> Outcome:
        try:
            if self.processes is not None and resolving.runs_in_process(job.task_path):
                return self.processes.run(job, self.running)
            return execution.run(job, self.executor)
        except BaseException as error:  # noqa: BLE001 - this thread must live on
            return broken(job, error, self.executor)

    def _next(self) -> Claimed | None:
        try:
            return self.jobs.get(timeout=IDLE)
        except Empty:
            # An idle thread keeps no connection open for nobody.
            connections.close_all()
            return self.jobs.get()


def broken(job: Claimed, error: BaseException, executor: Executor) -> Outcome:
    """The end of a job whose attempt came to no outcome of its own."""
    now = executor.clock()
    return outcomes.failed(job, error, executor, now, may_repeat=False)


# A thread without work for this many seconds closes its database connections.
IDLE = 5.0
# Seconds between looks at a lease that is in doubt.
PAUSE = 0.05


class EventLoop:
    """One thread with an event loop, on which coroutine tasks run side by side."""

    def __init__(
        self,
        executor: Executor,
        running: Running,
        deliver: Deliver,
        *,
        limit: int,
        may_begin: Callable[[], bool] = lambda: True,
    ) -> None:
        self.executor = replace(executor, begin=self._begin)
        self.running, self.deliver = running, deliver
        self.limit, self.may_begin = limit, may_begin
        self.waiting: deque[Claimed] = deque()
        self.loop = asyncio.new_event_loop()
        self.tasks: set[asyncio.Task[None]] = set()
        self.freed_at = time.monotonic()
        self.stopped = False
        self.thread = threading.Thread(
            target=self._run, name="windlass-event-loop", daemon=True
        )

    def start(self) -> None:
        self.thread.start()

    def put(self, jobs: Iterable[Claimed]) -> None:
        """Run these jobs, as soon as the limit allows; from any thread."""
        self.waiting.extend(jobs)
        self.loop.call_soon_threadsafe(self._fill)

    def unstarted(self) -> list[Claimed]:
        """Take back the jobs that have not begun."""
        taken: list[Claimed] = []
        with suppress(IndexError):
            while True:
                taken.append(self.waiting.popleft())
        return taken

    def stop(self) -> None:
        """End the loop; whatever still runs on it is given up."""
        self.stopped = True
        self.loop.call_soon_threadsafe(self.loop.stop)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.create_task(self._tidy_now_and_then())
        while not self.stopped:
            try:
                self.loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                # asyncio hands these on from any coroutine that a task has spawned.
                # The task itself gets it as well, and its neighbours go on.
                logger.warning("A coroutine on the event loop raised %r.", error)

    def _begin(self, job: Claimed) -> None:
        self.running.begin(job).task = asyncio.current_task()

    def _fill(self) -> None:
        if self.waiting and not self.may_begin():
            self.loop.call_later(PAUSE, self._fill)
            return
        with suppress(IndexError):
            while len(self.tasks) < self.limit:
                task = self.loop.create_task(self._work(self.waiting.popleft()))
                # The loop itself keeps only weak references.
                self.tasks.add(task)
                task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if self.waiting:
            self._fill()

    async def _work(self, job: Claimed) -> None:
        try:
            outcome = await execution.arun(job, self.executor)
        except BaseException as error:  # noqa: BLE001 - the loop must live on
            outcome = broken(job, error, self.executor)
        slot = self.running.end(job)
        self.freed_at = time.monotonic()
        if slot is not None or job.id not in self.running.interrupted:
            self.deliver(Report(job, outcome.move, outcome, slot, is_async=True))

    async def _tidy_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(IDLE)
            await sync_to_async(close_old_connections)()
