"""Async twins of public functions: the same work, in a thread that may wait for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from asgiref.sync import sync_to_async

P = ParamSpec("P")
R = TypeVar("R")


def twin(function: Callable[P, R]) -> Callable[P, Awaitable[R]]:
    """Make the coroutine function that does what a function does."""

    @wraps(function)
    async def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return await sync_to_async(function)(*args, **kwargs)

    call.__name__ = call.__qualname__ = "a" + function.__name__
    call.__doc__ = f"See ``{function.__name__}``."
    return call
