"""
Limits of a run: memory, time on a processor and open files, for each of its processes.

The system keeps them. Python code is told by an exception that names the limit; code in
C that does not hear it is ended by the system, and then the supervision names it.
"""

from __future__ import annotations

import errno
import math
import mmap
import os
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
    wanted = list(_wanted(options))
    kept = [(which, resource.getrlimit(which)) for which, _most in wanted]
    if options.nice:
        os.nice(options.nice)
    for which, most in wanted:
        # The hard limit stays, so that it can be taken back.
        hard = resource.getrlimit(which)[1]
        is_less = hard == resource.RLIM_INFINITY or most < hard
        resource.setrlimit(which, (most if is_less else hard, hard))
    if (cpu := options.cpu_limit) is not None:
        signal.signal(signal.SIGXCPU, lambda *_: _out_of_time(cpu))
        seconds = math.ceil(cpu)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + GRACE))
    try:
        yield
    except (MemoryError, OSError) as error:
        # To tell of it takes memory and files as well.
        _raise_again(kept)
        said = _reached(error, options)
        if said is None:
            raise
        raise LimitReached(said) from error
    finally:
        _raise_again(kept)
        if cpu is not None:
            signal.signal(signal.SIGXCPU, signal.SIG_IGN)


def _wanted(options: ProcessOptions) -> Iterator[tuple[int, int]]:
    if options.memory_limit is not None:
        which, taken = _keeps()
        yield which, options.memory_limit + taken
    if options.open_files_limit is not None:
        yield resource.RLIMIT_NOFILE, options.open_files_limit


def _raise_again(kept: list[tuple[int, tuple[int, int]]]) -> None:
    for which, limits in kept:
        resource.setrlimit(which, limits)


def _reached(error: BaseException, options: ProcessOptions) -> str | None:
    """Which limit an exception tells of, as a sentence; None if of none of ours."""
    memory, files = options.memory_limit, options.open_files_limit
    if isinstance(error, MemoryError):
        if memory is not None:
            return f"It reached its memory limit of {megabytes(memory)}."
    elif files is not None and getattr(error, "errno", None) == errno.EMFILE:
        return f"It reached its limit of {files:,} open files."
    return None


def _keeps() -> tuple[int, int]:
    """The limit of memory that this system keeps, and the bytes that do not count."""
    kept = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (0, kept[1]))
    try:
        mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except OSError:
        return resource.RLIMIT_DATA, 0
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, kept)
    # gVisor counts the heap only. The address space has libraries in it as well.
    try:
        with open("/proc/self/statm") as file:
            return resource.RLIMIT_AS, int(file.read().split()[0]) * mmap.PAGESIZE
    except OSError:
        return resource.RLIMIT_DATA, 0


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
