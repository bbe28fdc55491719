"""The tasks that the tests enqueue."""

from windlass import task


@task
def add(a, b):
    return a + b


@task
def boom(*args, **kwargs):
    raise ValueError("boom")
