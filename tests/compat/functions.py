"""Functions without a decorator, as django-task-worker's projects have them."""

import os
import signal
import threading
from pathlib import Path

from tests.waiting import eventually


def fail():
    raise ValueError("as always")


def fail_first(path, times):
    """Raise until it was called so many times more than that."""
    with open(path, "a") as file:
        file.write("x")
    if Path(path).stat().st_size <= times:
        raise ValueError("not yet")
    return "done"


def die_first(path):
    """Take the whole process along, the first time."""
    try:
        Path(path).touch(exist_ok=False)
    except FileExistsError:
        return "alive"
    os.kill(os.getpid(), signal.SIGKILL)


def meet(path, others):
    """Wait until so many calls are here at once."""
    (Path(path) / str(threading.get_ident())).touch()
    return eventually(lambda: len(os.listdir(path)) >= others, timeout=20)
