"""Cancelling a run: what waits ends at once, what runs is asked to."""

from __future__ import annotations

from functools import partial

from django.db import transaction

from windlass import conf, db
from windlass.db import CANCEL, Dialect, cancels, channel
from windlass.jobs import cancelling
from windlass.jobs.wakeups import wakeups
from windlass.workflows.engine import Advance, Settled
from windlass.workflows.models import Kind, Outcome, WorkflowRun
from windlass.workflows.rows import batches, lock_runs

WHY = "the run was cancelled"


def cancel(run: WorkflowRun, reason: str) -> None:
    """See ``WorkflowRun.cancel``."""
    own = db.dialect(conf.options(run.backend_alias).database_alias)
    with transaction.atomic(using=own.database):
        locked = lock_runs(own, [run.pk])[run.pk]
        if not locked.is_finished:
            locked.cancel_reason = reason
            locked.save(using=own.database, update_fields=["cancel_reason"])
            press(own, locked)
    run.refresh_from_db()


def press(own: Dialect, run: WorkflowRun) -> None:
    """Cancel what is left of a locked run; safe to be said again."""
    why = f"{WHY}: {run.cancel_reason}"[:255] if run.cancel_reason else WHY
    advance = Advance(own, {run.pk: run})
    members = advance.members.filter(run=run.pk, is_open=True, kind=Kind.JOB)
    waiting = list(members.filter(is_let_go=False).defer("plan", "value"))
    let_go = members.filter(is_let_go=True).values_list("pk", flat=True)
    going = [str(id) for id in let_go]
    ended = advance.turn_back(going, why)
    advance.skipped[why] = [str(member.pk) for member in waiting]
    advance.settle([Settled(m, Outcome.CANCELLED, why) for m in (*waiting, *ended)])
    advance.finish()
    moved = {str(member.pk) for member in (*waiting, *ended)}
    if moved:
        tell = partial(cancelling.announce, own, run.backend_alias, moved)
        transaction.on_commit(tell, using=own.database)
    _ask(own, run, [id for id in going if id not in moved], why)


def _ask(own: Dialect, run: WorkflowRun, ids: list[str], why: str) -> None:
    asked = False
    for some in batches(ids):
        asked |= bool(cancels.request_cancels(own, run.backend_alias, some, reason=why))
    if asked:
        carrier = wakeups(conf.options(run.backend_alias))
        carrier.tell(channel(run.backend_alias), CANCEL, own)
