"""
Cancelling jobs, whether they wait or run.

A waiting job ends at once. A running one belongs to its worker, so a request is left
for it: the worker tells the code to stop, and records the end once the code is dead.
A job that goes back to waiting meanwhile is cancelled by the janitor.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from django.db import transaction

from windlass import conf
from windlass.db import CANCEL, Dialect, cancels, channel
from windlass.jobs import lifecycle, results
from windlass.jobs.wakeups import wakeups
from windlass.models import Job
from windlass.signals import job_cancelled
from windlass.tasks_api import task_backends, task_finished


def cancel(db: Dialect, backend_alias: str, id: str, why: str) -> bool:
    """Cancel one job; False if it had ended."""
    if cancel_waiting(db, backend_alias, [id], why):
        return True
    if cancels.request_cancels(db, backend_alias, [id], reason=why):
        carrier = wakeups(conf.options(backend_alias))
        carrier.tell(channel(backend_alias), CANCEL, db)
        return True
    # It may have gone back to waiting between the two.
    return bool(cancel_waiting(db, backend_alias, [id], why))


def cancel_waiting(
    db: Dialect, backend_alias: str, ids: Sequence[str], why: str
) -> set[str]:
    """Cancel those of some jobs that no node holds; it is announced at the commit."""
    moved = lifecycle.cancel(db, ids, why=why)
    if moved:
        tell = partial(announce, db, backend_alias, moved)
        transaction.on_commit(tell, using=db.database)
    return moved


def announce(db: Dialect, backend_alias: str, moved: set[str]) -> None:
    """Tell the signals' receivers about jobs that were cancelled while they waited."""
    sender = type(task_backends[backend_alias])
    for job in Job.objects.using(db.database).filter(pk__in=moved):
        result = results.of_job(job)
        task_finished.send_robust(sender=sender, task_result=result)
        job_cancelled.send_robust(sender=sender, task_result=result)
