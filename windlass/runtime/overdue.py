"""
Killing a worker process whose code has run past every limit and does not end.

The worker sees to its timeouts itself. But code that holds Python's lock lets no
thread of it run, so the worker leaves in its ledger when it is to be killed at the
latest, and its supervisor looks there now and then.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from contextlib import suppress

from windlass.runtime import ledger
from windlass.runtime.child import SHOW_STACKS, STACKS_WITHIN

logger = logging.getLogger("windlass")


def kill_if_overdue(name: str, pid: int, node: int) -> bool:
    """Kill a worker process if it is time; say whether it was."""
    now = time.monotonic()
    if not ledger.is_overdue(node, now=now):
        return False
    logger.error(
        "%s (process %s) is killed: a job in it ran past its timeout, and its code "
        "does not end.",
        name,
        pid,
    )
    with suppress(OSError):
        _show_stacks(pid)
        ledger.mark_overdue(node, now=now)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return True


def _show_stacks(pid: int) -> None:
    if SHOW_STACKS is not None:
        os.kill(pid, SHOW_STACKS)
        # Its handler is in C and needs no lock.
        time.sleep(STACKS_WITHIN)
