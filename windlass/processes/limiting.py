"""
Limits of a run: memory and time on a processor, for each of its processes.

The system keeps them. Python code is told by an exception that names the limit; code in
C that does not hear it is ended by the system, and then the supervision names it.
"""

from __future__ import annotations

import math
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from windlass.processes.conf import ProcessOptions
from windlass.runtime.memory import megabytes

# CPU seconds after the exception until the system ends the process.
GRACE = 5
# A process that died with so much of its memory in use died of that.
NEARLY = 0.8


class LimitReached(Exception):
    """The run reached a limit of WINDLASS_PROCESSES."""


@contextmanager
def within(options: ProcessOptions) -> Iterator[None]:
    """Keep the limits while ``run()`` runs, in a process that is its own."""
    memory, cpu = options.memory_limit, options.cpu_limit
    kept = resource.getrlimit(resource.RLIMIT_DATA)
    if memory is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (memory, kept[1]))
    if cpu is not None:
        signal.signal(signal.SIGXCPU, lambda *_: _out_of_time(cpu))
        seconds = math.ceil(cpu)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + GRACE))
    try:
        yield
    except MemoryError as error:
        # To tell of it takes memory as well.
        resource.setrlimit(resource.RLIMIT_DATA, kept)
        if memory is None:
            raise
        said = f"It reached its memory limit of {megabytes(memory)}."
        raise LimitReached(said) from error
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, kept)
        if cpu is not None:
            signal.signal(signal.SIGXCPU, signal.SIG_IGN)


def _out_of_time(cpu: float) -> None:
    # The system repeats it every second, and once is enough.
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    raise LimitReached(f"It used up its {cpu:g} s of CPU time.")


def cause(said: dict[str, Any], options: ProcessOptions) -> str:
    """Which limit a dead process had reached, as a sentence; empty if none."""
    memory, cpu = options.memory_limit, options.cpu_limit
    if "exit" not in said or said["exit"] >= 0:
        return ""
    if cpu is not None and said["cpu"] >= cpu:
        return f" It was killed at {said['cpu']:g} s of {cpu:g} s of CPU time."
    if memory is not None and said["memory"] >= NEARLY * memory:
        used = megabytes(said["memory"])
        return f" It was killed at {used} of {megabytes(memory)} of memory."
    return ""
