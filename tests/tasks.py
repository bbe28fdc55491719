"""The tasks that the tests enqueue."""

import sys

from windlass import Cancel, Retry, Snooze, task


@task
def add(a, b):
    return a + b


@task
def boom(*args, **kwargs):
    raise ValueError("boom")


@task
def noop(*args, **kwargs):
    return None


@task
def echo(*args, **kwargs):
    return {"args": args, "kwargs": kwargs}


@task
def give(name):
    """Return what no caller could pass as an argument."""
    return GIFTS[name]()


@task
async def add_later(a, b):
    return a + b


@task
async def boom_later():
    raise ValueError("boom, later")


@task(takes_context=True)
def look(context, *args):
    result = context.task_result
    return {
        "id": result.id,
        "attempt": context.attempt,
        "status": result.status,
        "args": args,
        "metadata": context.metadata,
    }


@task(takes_context=True)
async def look_later(context):
    return context.attempt


@task(takes_context=True)
def remember(context, **said):
    context.metadata.update(said)
    context.save_metadata()
    context.progress(3, total=10, message="three of ten")


@task(takes_context=True)
async def remember_later(context, **said):
    context.metadata.update(said)
    await context.asave_metadata()


@task(takes_context=True)
def remember_nan(context):
    context.metadata["share"] = float("nan")
    context.save_metadata()


@task
def leave(how):
    """End as no function should."""
    raise EXITS[how]()


@task
async def leave_later(how):
    raise EXITS[how]()


@task
def exit_now():
    sys.exit(3)


@task
def chained():
    try:
        try:
            raise KeyError("the first")
        except KeyError as error:
            raise ValueError("the second") from error
    except ValueError:
        raise RuntimeError("the third")  # noqa: B904 - the context is the test


@task
def raise_broken(how):
    raise BROKEN[how]()


@task(max_attempts=3, backoff=60)
def stubborn(kind="ValueError"):
    raise {"ValueError": ValueError, "KeyError": KeyError, "OSError": OSError}[kind](
        "again"
    )


@task(max_attempts=3, backoff=60, retry_on=OSError, give_up_on=FileNotFoundError)
def picky(kind):
    raise {"OSError": OSError, "missing": FileNotFoundError, "other": ValueError}[kind]


@task(max_attempts=3)
def control(name, *args):
    raise {"snooze": Snooze, "retry": Retry, "cancel": Cancel}[name](*args)


def no_more(exception, task_result):
    return None


@task(max_attempts=3, backoff="tests.tasks.no_more")
def hopeless():
    raise ValueError("hopeless")


@task(takes_context=True, max_attempts=5, backoff=0)
def succeed_on(context, attempt):
    if context.attempt < attempt:
        raise ValueError(f"attempt {context.attempt}")
    return context.attempt


def not_a_task():
    raise AssertionError("this must never run")


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


class Exiting(Exception):
    def __str__(self):
        sys.exit("from __str__")


class Unpicklable(Exception):
    def __init__(self, one=1, *, two=2):
        super().__init__("cannot be made again")
        self.function = lambda: (one, two)

    def __reduce__(self):
        raise TypeError("cannot be pickled")


class Unstorable(Exception):
    def __init__(self):
        super().__init__("NUL \0 and half a pair \ud800")


BROKEN = {
    "unprintable": Unprintable,
    "exiting": Exiting,
    "unpicklable": Unpicklable,
    "unstorable": Unstorable,
    "group": lambda: ExceptionGroup("several", [ValueError("one"), OSError("two")]),
}
EXITS = {
    "SystemExit": SystemExit,
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "StopIteration": StopIteration,
}
GIFTS = {
    "object": object,
    "nan": lambda: float("nan"),
    "infinity": lambda: {"deep": [1, float("inf")]},
    "nul": lambda: "a\0b",
    "surrogate": lambda: "\ud800",
    "set": lambda: {1},
    "generator": lambda: (n for n in ()),
    "bytes": lambda: b"text",
    "tuple": lambda: (1, (2, 3)),
    "int keys": lambda: {1: "one"},
    "none": lambda: None,
    "deep": lambda: nested(501),
}


def nested(depth):
    """A list in a list, and so on."""
    value = 1
    for _ in range(depth):
        value = [value]
    return value


@task
def nest(depth):
    value = []
    for _level in range(depth):
        value = [value]
    return value
