"""
Followers: who is told, inside the transaction of a move, that a job has moved on.

Workflows are jobs that wait for jobs, so the end of one is the beginning of others.
An app that wants to know registers a follower when it is ready; the engine knows the
registry and nothing of the apps. Only jobs that carry the mark in their policy are
told of when a worker ends them, so a batch without such a job costs no statement.

An error that takes the transaction with it, such as the database being away, undoes
the move with whatever the follower did: better a repeated report than a lost one. Any
other error of a follower is logged and the end stays, because one bad row must not
hold up all others; a follower therefore has to be able to find out later, from the
rows, what it was not told.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Protocol

from django.db import InterfaceError, OperationalError, transaction

from windlass.db import Claimed, Dialect

logger = logging.getLogger("windlass")

# In the policy of a job that somebody follows.
MARK = '"workflow"'


class Follower(Protocol):
    """What is told about jobs, by the connection that moves them."""

    def ended(self, db: Dialect, ids: Sequence[str]) -> None:
        """Learn that jobs have ended; some may be nobody's concern."""

    def revived(self, db: Dialect, ids: Sequence[str]) -> None:
        """Learn that jobs that had ended live again."""

    def seen_from(self, job: Claimed, node: int, database: str) -> Any:
        """What a running job sees of the whole it belongs to."""


_followers: list[Follower] = []


def follow(follower: Follower) -> None:
    """Tell a follower from now on; registering it again changes nothing."""
    if follower not in _followers:
        _followers.append(follower)


def is_followed(job: Claimed) -> bool:
    """Whether somebody wants to know of this job's end."""
    return job.policy is not None and MARK in job.policy


def tell_ended(db: Dialect, ids: Sequence[str]) -> None:
    """Tell everybody that jobs have ended; inside the transaction of the move."""
    for follower in _followers if ids else ():
        _tell(db, follower.ended, ids)


def tell_revived(db: Dialect, ids: Sequence[str]) -> None:
    """Tell everybody that jobs live again; inside the transaction of the move."""
    for follower in _followers if ids else ():
        _tell(db, follower.revived, ids)


def seen_from(job: Claimed, node: int, database: str) -> Any:
    """What a running job sees of the whole it belongs to; None if to nothing."""
    if not is_followed(job):
        return None
    views = (follower.seen_from(job, node, database) for follower in _followers)
    return next((view for view in views if view is not None), None)


def _tell(db: Dialect, told: Any, ids: Sequence[str]) -> None:
    try:
        with transaction.atomic(using=db.database):
            told(db, ids)
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:
        if db.connection.needs_rollback:
            # The move is undone with it, and whoever made it is to make it again.
            raise OperationalError(str(error)) from error
        logger.exception("What follows the end of %s jobs failed.", len(ids))
