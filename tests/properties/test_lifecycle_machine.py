"""
The life of jobs against a model of it: any verbs, in any order, told by anyone.

The model is a dozen plain values for each job. After each step the database must
show exactly those, each job in one row of one table.
"""

import json
import time
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from django.db import connections
from django.utils import timezone
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.contract.rows import hours, new
from windlass import db
from windlass.jobs import lifecycle
from windlass.jobs.lifecycle import CRASH_LIMIT, REVIVABLE, WAITING, Attempt
from windlass.models import EndedJob, Job, LiveJob
from windlass.models.jobs import ENDS

NODES = (2**62, 9)
LANES = [db.Lane("default", 0)]
EXAMPLES = {"sqlite": 80, "postgresql": 50, "mysql": 16}


REPORTED = ("succeeded", "failed", "cancelled")


@dataclass
class Model:
    """What we believe about one job."""

    max_attempts: int
    on_lost: str | None
    state: str = "ready"
    reason: str = ""
    attempts: int = 0
    claims: int = 0
    crashes: int = 0
    spent: int = 0
    history: int = 0
    node: int | None = None
    held: db.Claimed | None = None
    last_end: tuple | None = None
    ghosts: list = field(default_factory=list)

    def may_run_again(self):
        if self.on_lost == "fail":
            return False
        return self.on_lost == "retry" or self.attempts < self.max_attempts

    def wait(self, state, *, attempt_back=0, history=0, crashed=0):
        self.let_go()
        self.state = state
        self.attempts -= attempt_back
        self.history += history
        self.crashes += crashed

    def end(self, state, reason="", *, history=0, crashed=0):
        self.let_go()
        self.state, self.reason = state, reason
        self.history += history
        self.crashes += crashed

    def let_go(self):
        if self.held:
            self.ghosts.append((self.node, self.held))
        self.node = self.held = None

    def discard(self):
        # A failure that is thrown away keeps the reason for which it failed.
        self.end("discarded", self.reason if self.state == "failed" else "limit")

    def revive(self):
        budget = self.max_attempts - self.spent
        self.state, self.reason, self.crashes = "ready", "", 0
        self.spent = self.attempts
        self.max_attempts = self.attempts + budget
        self.last_end = None


SAID_BY_PEOPLE = {
    "block": (
        lambda db, ids: lifecycle.block(db, ids, "limit"),
        ("ready", "scheduled"),
        lambda model: model.wait("blocked"),
    ),
    "unblock": (lifecycle.unblock, ("blocked",), lambda model: model.wait("ready")),
    "hasten": (lifecycle.hasten, ("scheduled",), lambda model: model.wait("ready")),
    "cancel": (
        lifecycle.cancel,
        WAITING,
        lambda model: model.end("cancelled", "cancelled"),
    ),
    "discard": (
        lambda db, ids: lifecycle.discard(db, ids, reason="limit"),
        (*WAITING, "failed"),
        Model.discard,
    ),
    "retry": (lifecycle.retry, REVIVABLE, Model.revive),
}


class Lifecycle(RuleBasedStateMachine):
    """Everything that may be said about jobs, by two nodes and by people."""

    owned = False

    def __init__(self):
        super().__init__()
        self.models: dict[str, Model] = {}
        self.db = db.dialect("default", owned=self.owned)
        for model in (LiveJob, EndedJob):
            model.objects.all()._raw_delete("default")

    def having(self, *states):
        """The jobs in these states, by id."""
        return {id: m for id, m in self.models.items() if m.state in states}

    # Enqueue and claim

    @precondition(lambda self: len(self.models) < 8)
    @rule(
        count=st.integers(1, 3),
        max_attempts=st.integers(1, 3),
        on_lost=st.sampled_from([None, "retry", "fail"]),
        later=st.booleans(),
    )
    def enqueue(self, count, max_attempts, on_lost, later):
        policy = {"on_lost": on_lost} if on_lost else None
        run_after = hours(5) if later else None
        columns = {"max_attempts": max_attempts, "run_after": run_after}
        jobs = [new(policy=policy, **columns) for _each in range(count)]
        lifecycle.enqueue(self.db, jobs)
        for job in jobs:
            self.models[job.id] = Model(max_attempts, on_lost)
            self.models[job.id].state = "scheduled" if later else "ready"

    @precondition(lambda self: self.having("ready"))
    @rule(node=st.sampled_from(NODES), limit=st.integers(1, 4))
    def claim(self, node, limit):
        ready = set(self.having("ready"))
        self.untie(ready)
        jobs = lifecycle.claim(self.db, node, "default", LANES, limit)
        assert len(jobs) == min(limit, len(ready))
        assert {job.id for job in jobs} <= ready
        self.hold(node, jobs)

    def untie(self, ready):
        """Let the same be claimed first each time; what one move made is of an age."""
        begin = timezone.now() - timedelta(seconds=1)
        for place, id in enumerate(sorted(ready)):
            age = begin + timedelta(microseconds=place)
            LiveJob.objects.filter(pk=id).update(available_at=age)

    def hold(self, node, jobs):
        for job in jobs:
            model = self.models[job.id]
            model.state, model.node, model.held = "running", node, job
            model.attempts += 1
            model.claims += 1
            assert (job.attempts, job.claim) == (model.attempts, model.claims)

    @precondition(lambda self: self.having("scheduled"))
    @rule()
    def time_passes(self):
        due = LiveJob.objects.filter(node=None, hold="", available_at__gt=hours(1))
        due.update(available_at=timezone.now())
        for model in self.having("scheduled").values():
            model.state = "ready"

    @precondition(lambda self: self.having("running"))
    @rule()
    def the_same_node_claims_again_what_it_gave_back(self):
        for model in self.having("running").values():
            lifecycle.record(self.db, model.node, [lifecycle.release(model.held)])
            node = model.node
            model.wait("ready", attempt_back=1)
            model.last_end = None
        ready = len(self.having("ready"))
        self.hold(node, lifecycle.claim(self.db, node, "default", LANES, ready))

    # The end of an attempt, told by the one who holds it

    @precondition(lambda self: self.having("running"))
    @rule(
        data=st.data(),
        say=st.sampled_from(
            ["complete", "retry", "fail", "snooze", "release", "cancel", "interrupt"]
        ),
    )
    def report(self, data, say):
        running = self.having("running")
        ids = data.draw(st.sets(st.sampled_from(sorted(running)), min_size=1))
        node = running[min(ids)].node
        ids = {id for id in ids if running[id].node == node}
        moves = [move_of(say, node, running[id].held) for id in sorted(ids)]
        assert lifecycle.record(self.db, node, moves) == ids
        for move in moves:
            model = self.models[move.id]
            again = model.may_run_again()
            if say == "complete":
                model.end("succeeded")
            elif say == "retry":
                model.wait("scheduled", history=1)
            elif say == "fail":
                model.end("failed", "error", history=1)
            elif say == "snooze":
                model.wait("scheduled", attempt_back=1)
            elif say == "release" or (say == "interrupt" and again):
                model.wait("ready", attempt_back=1)
            elif say == "interrupt":
                model.end("failed", "interrupted", history=1)
            else:
                model.end("cancelled", "cancelled", history=1)
            model.last_end = (node, move) if type(move) is db.Ended else None

    @precondition(lambda self: self.having("running"))
    @rule(node=st.sampled_from(NODES), data=st.data())
    def rescue(self, node, data):
        held = {id: m for id, m in self.having("running").items() if m.node == node}
        ids = st.sampled_from(sorted(held)) if held else st.nothing()
        started = data.draw(st.sets(ids))
        now = time.time()
        moves = lifecycle.rescue(
            self.db,
            node,
            [model.held for model in held.values()],
            lambda job: (
                lifecycle.crash(Attempt(job, node, now, now), {"cause": "lost"})
                if job.id in started
                else lifecycle.release(job)
            ),
        )
        assert set(moves) == set(held)
        for id, model in held.items():
            if id not in started:
                model.wait("ready", attempt_back=1)
            elif model.crashes + 1 >= CRASH_LIMIT:
                model.end("failed", "crashed", history=1, crashed=1)
                model.last_end = (node, moves[id])
            elif model.may_run_again():
                model.wait("ready", history=1, crashed=1)
            else:
                model.end("failed", "lost", history=1, crashed=1)
                model.last_end = (node, moves[id])

    # And by those who do not hold it any more

    def ghosts(self):
        return [ghost for model in self.models.values() for ghost in model.ghosts]

    @precondition(lambda self: self.ghosts())
    @rule(
        data=st.data(),
        say=st.sampled_from(["complete", "retry", "fail", "snooze", "release"]),
    )
    def stale_report(self, data, say):
        node, job = data.draw(st.sampled_from(self.ghosts()))
        move = move_of(say, node, job)
        if type(move) is db.Ended:
            move = move._replace(finished_at=move.finished_at + 7)
        assert lifecycle.record(self.db, node, [move]) == set()

    @precondition(lambda self: self.having("running"))
    @rule(data=st.data(), say=st.sampled_from(["complete", "release"]))
    def report_of_the_wrong_node(self, data, say):
        model = data.draw(st.sampled_from(list(self.having("running").values())))
        other = NODES[1 - NODES.index(model.node)]
        assert lifecycle.record(self.db, other, [move_of(say, other, model.held)]) == (
            set()
        )

    def last_ends(self):
        return [m.last_end for m in self.having(*REPORTED).values() if m.last_end]

    @precondition(lambda self: self.last_ends())
    @rule(data=st.data())
    def tell_the_end_again(self, data):
        node, move = data.draw(st.sampled_from(self.last_ends()))
        assert lifecycle.record(self.db, node, [move]) == {move.id}

    # People and limits, about any jobs at all

    @precondition(lambda self: self.models)
    @rule(data=st.data(), verb=st.sampled_from(sorted(SAID_BY_PEOPLE)))
    def people_say(self, data, verb):
        say, leaves, become = SAID_BY_PEOPLE[verb]
        ids = data.draw(st.sets(st.sampled_from(sorted(self.models)), min_size=1))
        moved = {id: self.models[id] for id in ids if self.models[id].state in leaves}
        assert say(self.db, sorted(ids)) == set(moved)
        for model in moved.values():
            become(model)

    @precondition(lambda self: self.having(*ENDS))
    @rule(states=st.sets(st.sampled_from([str(end) for end in ENDS]), min_size=1))
    def prune(self, states):
        gone = self.having(*states)
        counts = [1]
        while counts[-1]:
            ends = lifecycle.prune(
                self.db,
                among=lambda ended: ended.filter(state__in=states),
                before=hours(1),
                limit=2,
            )
            counts.append(len(ends))
        assert sum(counts[1:]) == len(gone)
        assert max(counts) <= 2
        for id in gone:
            del self.models[id]

    # What must be so after each step

    @invariant()
    def the_database_shows_the_model(self):
        shown = {
            str(row.pk): (row.state, row.reason, row.node, *numbers(row))
            for row in Job.objects.all()
        }
        assert shown == {
            id: (
                *(model.state, model.reason, self.node_shown(id)),
                *(model.attempts, model.max_attempts, model.crashes, model.history),
            )
            for id, model in self.models.items()
        }

    def node_shown(self, id):
        # An ended row keeps the node that ended it; one cancelled while it waited
        # was ended by none.
        model = self.models[id]
        if model.state in (str(end) for end in ENDS) and model.last_end:
            return model.last_end[0]
        return model.node

    @invariant()
    def each_job_is_one_row_of_one_table(self):
        live = {str(id) for id in LiveJob.objects.values_list("id", flat=True)}
        ended = {str(id) for id in EndedJob.objects.values_list("id", flat=True)}
        assert not live & ended
        assert live | ended == set(self.models)
        assert ended == {id for id, m in self.models.items() if m.state in ENDS}

    @invariant()
    def claims_never_fall(self):
        for table in (LiveJob, EndedJob):
            for id, claim in table.objects.values_list("id", "claim"):
                assert claim == self.models[str(id)].claims


def numbers(row):
    return (row.attempts, row.max_attempts, row.crashes, len(row.history or ()))


def move_of(say, node, job):
    """What one who holds, or believes to hold, a job would report."""
    now = time.time()
    attempt = Attempt(job, node, now, now)
    entry = {"cause": "error"}
    return {
        "complete": lambda: lifecycle.complete(attempt, json.dumps("done")),
        "retry": lambda: lifecycle.fail(attempt, entry, retry_in=7200.0),
        "fail": lambda: lifecycle.fail(attempt, entry, retry_in=None),
        "snooze": lambda: lifecycle.snooze(attempt, 7200.0),
        "release": lambda: lifecycle.release(job),
        "cancel": lambda: lifecycle.cancel_running(attempt, entry),
        "interrupt": lambda: lifecycle.interrupt(attempt, entry),
    }[say]()


class PortableLifecycle(Lifecycle):
    """The same, in the portable dialect."""

    def __init__(self):
        super().__init__()
        self.db = db.Dialect("default")


class OwnedLifecycle(Lifecycle):
    """The same, on a connection of the runtime's own."""

    owned = True


@pytest.mark.parametrize(
    ("machine", "share"),
    [(Lifecycle, 0.5), (OwnedLifecycle, 1.0), (PortableLifecycle, 0.4)],
)
def test_the_life_of_jobs_is_as_the_model_says(committed, machine, share):
    try:
        run_state_machine_as_test(
            machine,
            settings=hypothesis_settings(
                max_examples=int(EXAMPLES[committed.vendor] * share),
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                print_blob=True,
            ),
        )
    finally:
        connections["default"].close()
