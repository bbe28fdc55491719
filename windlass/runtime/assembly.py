"""
Putting the parts of a worker process together, once its node is registered.

What starts code and what ends it share one list of what runs (``running``), which
notes each start in the ledger before it happens.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from windlass import db
from windlass.jobs.limits import Limits
from windlass.runtime.claimer import BOUND, Claimer
from windlass.runtime.exchange import Exchange
from windlass.runtime.executors import EventLoop, Threads
from windlass.runtime.flusher import Flusher
from windlass.runtime.handover import Handover
from windlass.runtime.ledger import Ledger, stacks_of
from windlass.runtime.own_threads import own_thread
from windlass.runtime.processes import show_stacks_on_demand
from windlass.runtime.recycling import Recycling
from windlass.runtime.running import Running
from windlass.runtime.shutdown import retire
from windlass.runtime.watch import Watch

if TYPE_CHECKING:
    from windlass.runtime.worker import Worker


def assemble(worker: Worker) -> None:
    """Make the parts and start their threads."""
    _what_runs(worker)
    _what_runs_it(worker)
    worker.recycling = Recycling(worker.worker)
    worker.flusher.start(flush=worker.exchange is None)
    worker.watch.start()
    worker.threads.start()
    worker.lease.start()


def _what_runs(worker: Worker) -> None:
    node, options, own = worker.lease.node, worker.options, worker.worker
    slots = 4 * BOUND + own.threads + 2 * own.async_concurrency
    worker.ledger = Ledger(node, slots=slots)
    if worker.lease.supervisor_pid is not None:
        show_stacks_on_demand(stacks_of(node))
    running = worker.running = Running(worker.ledger)
    worker.watch = Watch(
        running, grace=options.stop_grace, overrun=partial(retire, worker)
    )
    worker.executor = replace(
        worker.executor,
        begin=running.begin,
        done=running.done,
        stop_asked=running.stop_asked,
    )


def _what_runs_it(worker: Worker) -> None:
    options = worker.options
    node, limits = worker.lease.node, Limits(options.alias, options.queue_limits)
    worker.handover = Handover(worker)
    worker.claimer = Claimer(
        worker.db,
        node,
        options.alias,
        worker.worker,
        limits=limits,
        handover=worker.handover,
    )
    # Whoever writes in the claim's transaction does it by the claim's connection.
    shares = worker.db.single_writer
    worker.flusher = Flusher(
        worker.db if shares else db.dialect(options.database_alias, owned=True),
        worker.executor,
        worker.ledger,
        settled=worker.settled,
        limits=limits,
        handover=worker.handover,
        began=partial(own_thread, options),
        tells_ends=worker.lease.tells_ends,
    )
    worker.threads = Threads(
        worker.executor,
        worker.running,
        worker.deliver,
        count=worker.worker.threads,
        processes=worker.processes,
        may_begin=worker.lease.is_valid,
    )
    if shares:
        worker.exchange = Exchange(worker.db, worker.flusher, worker.claimer)


def event_loop(worker: Worker) -> EventLoop:
    """The event loop of a worker that has got its first coroutine task."""
    loop = EventLoop(
        worker.executor,
        worker.running,
        worker.deliver,
        limit=worker.worker.async_concurrency,
        may_begin=worker.lease.is_valid,
    )
    loop.start()
    return loop
