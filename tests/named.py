"""Functions that are called by their names."""

from pathlib import Path as ImportedClass
from textwrap import dedent as imported

from windlass import concurrency, task

__all__ = ["ImportedClass", "imported"]


def multiply(a, b=1):
    return a * b


def fail(what):
    raise ValueError(what)


async def swim(a):
    return a + 1


@task(queue_name="default", priority=3, max_attempts=4, timeout=12)
def decorated(a):
    return -a


@task
def plainly_decorated(a):
    return a


@concurrency(key="named:{a}")
def limited(a):
    return a


value = 3
