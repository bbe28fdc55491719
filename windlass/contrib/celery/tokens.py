"""
The token of an attempt on Celery: who supervises it, and how to know that it is dead.

A pid means nothing on another host, and nothing later. So the token says within which
scope (host, boot, pid namespace) the pids mean something, and when the two processes
had started: the one that supervises, and the one that runs, whose pid has a column.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from django.db.models import Q

from windlass.processes import moves
from windlass.runtime import identity

if TYPE_CHECKING:
    from windlass.processes.models import BaseProcess

# Ends the token of a run that is to end as cancelled, whatever it comes to.
CANCELLED = "!"
# The column has 64 characters.
NONCE, SCOPE = 4, 12


class Token(NamedTuple):
    """An attempt, and the processes it consists of."""

    nonce: str
    scope: str
    supervisor: int
    supervisor_start: int
    leader_start: int

    @classmethod
    def make(cls, leader: int) -> Token:
        """The token of an attempt that this process supervises."""
        own, started = os.getpid(), identity.process_start
        nonce = secrets.token_hex(NONCE)
        return cls(nonce, scope(), own, started(own), started(leader))

    @classmethod
    def read(cls, text: str) -> Token | None:
        """A token as it is stored; None for one that somebody else has made."""
        try:
            nonce, where, *numbers = text.removesuffix(CANCELLED).split(".")
            return cls(nonce, where, *map(int, numbers))
        except (ValueError, TypeError):
            return None

    def __str__(self) -> str:
        return ".".join(map(str, self))

    def holds(self) -> Q:
        """The guard of the attempt, cancelled or not: it runs, and no other began."""
        own = (str(self), f"{self}{CANCELLED}")
        return Q(status=moves.RUNNING, run_token__in=own)


@cache
def scope() -> str:
    """Where a pid of this process means something, in a few characters."""
    return hashlib.sha256(identity.host().encode()).hexdigest()[:SCOPE]


def is_cancelled(process: BaseProcess) -> bool:
    """Whether somebody has cancelled the attempt that runs."""
    return process.run_token.endswith(CANCELLED)
