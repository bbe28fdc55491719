"""
What Celery's workers do besides the tasks: they answer for their host, and sweep.

Commands are for every worker. Only those of the host that is meant know the processes,
and each tells those of its own host only.
"""

from __future__ import annotations

import logging
import socket
from contextlib import suppress
from typing import Any

from billiard.exceptions import WorkerLostError
from celery import bootsteps
from celery.signals import task_failure, worker_init

from windlass.contrib.celery import sending
from windlass.processes import conf
from windlass.processes.listening import path_of
from windlass.runtime import identity, ledger

logger = logging.getLogger("windlass")

RUN = "windlass.contrib.celery.tasks.run"


def connect() -> None:
    """Wait for a worker to start in this process, if ever one does."""
    worker_init.connect(_prepare, dispatch_uid="windlass.celery")
    task_failure.connect(_have_looked_at, dispatch_uid="windlass.celery")


def _prepare(sender: Any, **kwargs: Any) -> None:
    sender.app.steps["consumer"].add(Sweeping)
    # Nobody else needs a worker's modules.
    from celery.worker.control import control_command, inspect_command

    control_command(name="windlass_end", args=[("task_id", str)])(end)
    control_command(name="windlass_kill")(kill)
    inspect_command(name="windlass_look")(look)


def end(state: Any, task_id: str) -> dict[str, str]:
    """Have a run on this host ended, which its supervision does."""
    pattern = path_of(task_id, 0).rpartition("/")[2].replace(".0.log", ".*.log")
    for path in ledger.path_of(0).parent.glob(pattern):
        # One that nobody listens to any more is of a worker that was killed.
        with suppress(OSError), socket.socket(socket.AF_UNIX) as telling:
            telling.settimeout(1.0)
            telling.connect(str(path))
            telling.sendall(b'{"end":1}\n')
            return {"ok": "it is being ended"}
    return {"ok": "it is not here"}


def look(state: Any, scope: str, processes: list[list[int]]) -> list[bool] | None:
    """Which processes run on this host, by pid and start; None from another host."""
    from windlass.contrib.celery import tokens

    if scope != tokens.scope():
        return None
    return [identity.is_running(pid, started) for pid, started in processes]


def kill(state: Any, scope: str, pid: int, started: int) -> dict[str, str]:
    """Kill the group of a run, if it is on this host and has that number still."""
    from windlass.contrib.celery import tokens, watching

    if scope != tokens.scope():
        return {"ok": "it is not here"}
    killed = watching.kill(pid, started)
    return {"ok": "killed" if killed else "it is not there any more"}


def _have_looked_at(sender: Any, exception: Any, args: Any, **kwargs: Any) -> None:
    """Have a run looked at whose pool's process was killed."""
    if sender.name != RUN or not isinstance(exception, WorkerLostError):
        return
    from windlass.contrib.celery.tasks import watchdog

    queue = conf.options().supervisor_queue
    said = {"is_doubtful": True, "is_single": True}
    watchdog.apply_async(
        (*args[:4], ""), said, queue=queue, countdown=1, **sending.FROM_LOOP
    )


class Sweeping(bootsteps.StartStopStep):
    """Sends a sweep now and then, from workers that serve the supervisors' queue."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, c: Any) -> None:
        """Begin, and again after each time that the broker was away."""
        if conf.options().supervisor_queue in c.app.amqp.queues.consume_from:
            c.timer.call_repeatedly(sending.SWEEP_EVERY, sending.send_sweep)

    def stop(self, c: Any) -> None:
        """Celery forgets its timers itself."""
