"""Concurrency limits: how many jobs of a key run at the same time."""

import json
import uuid

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.contract.rows import NODE, OTHER, take
from tests.limited_tasks import (
    both,
    maybe,
    misspelled,
    one,
    per_account,
    plain,
    rated,
    single,
    spelled,
)
from tests.running import make_claimer
from windlass import api, concurrency
from windlass.db import dialect as make_dialect
from windlass.exceptions import ConfigurationError, RefusedTask
from windlass.jobs import lifecycle, outcomes
from windlass.jobs.keys import LIMITS, Limit
from windlass.jobs.lifecycle import Attempt
from windlass.jobs.limits import Limits
from windlass.models import Job, LiveJob, Slot, Waiter
from windlass.tasks_api import default_task_backend

transactional = pytest.mark.django_db(transaction=True)


@pytest.fixture
def db():
    return make_dialect("default")


@pytest.fixture
def limits():
    return Limits("default", {})


@pytest.fixture
def claimer(db, limits):
    return make_claimer(db, NODE, limits)


@pytest.fixture
def end(db, limits):
    """End jobs as the flusher does; gives back those that got their slots."""

    def end(*jobs, taker=ONE):
        moves = [lifecycle.complete(Attempt(job, NODE, 1.0, 2.0), None) for job in jobs]
        with db.transaction():
            lifecycle.record(db, NODE, moves)
            return flat(limits.release(db, NODE, jobs, taker=taker))

    return end


class Taker:
    """Takes so many jobs for each slot."""

    def __init__(self, length):
        self.most = length

    def takes(self, job):
        return self.most > 0

    def follows(self, job):
        return True

    def length(self, places):
        return max(1, self.most)


ONE, NONE, CHAIN = Taker(1), Taker(0), Taker(3)


def flat(chains):
    return [job for chain in chains for job in chain]


def args_of(jobs):
    return [json.loads(job.args)[0] for job in jobs]


def states():
    return sorted(Job.objects.values_list("state", flat=True))


# The decorator


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "2", None, 10_001])
def test_what_is_no_limit_is_refused(limit):
    with pytest.raises(ConfigurationError, match="@concurrency: limit must be"):
        concurrency(key="k", limit=limit)


def test_other_mistakes_are_refused():
    with pytest.raises(ConfigurationError, match="@concurrency: key must be"):
        concurrency(key="")
    with pytest.raises(ConfigurationError, match='on_conflict must be "block" or'):
        concurrency(key="k", on_conflict="replace")
    with pytest.raises(ConfigurationError, match="@concurrency: duration must be"):
        concurrency(key="k", duration=0)


@transactional
def test_a_mistake_in_the_other_spelling_is_refused_with_nothing_stored():
    with pytest.raises(RefusedTask, match="misspelled: limit must be a whole number"):
        misspelled.enqueue()

    assert not LiveJob.objects.exists()


# Who may run


@transactional
def test_one_runs_and_the_others_wait_without_spending_an_attempt(claimer):
    for number in range(4):
        one.enqueue(number)

    assert args_of(claimer.claim(10)) == [0]

    assert states() == ["blocked", "blocked", "blocked", "running"]
    waiting = LiveJob.objects.blocked()
    assert {(row.attempts, row.node, row.hold) for row in waiting} == {
        (0, None, "limit")
    }
    assert not claimer.claim(10)


@transactional
def test_the_end_of_one_hands_its_slot_to_the_next(claimer, end):
    for number in range(3):
        one.enqueue(number)
    (job,) = claimer.claim(10)

    (second,) = end(job)
    (third,) = end(second)

    assert args_of([second, third]) == [1, 2]
    assert (second.attempts, second.claim) == (1, 2)
    row = LiveJob.objects.get(pk=third.id)
    assert (row.node, row.claim, row.attempts) == (NODE, third.claim, 1)
    assert end(third) == []
    assert not Slot.objects.exists()
    assert not Waiter.objects.exists()


@transactional
def test_the_next_is_that_of_the_highest_priority_then_the_oldest(claimer, end):
    one.enqueue(0)
    (job,) = claimer.claim(10)
    for number, priority in [(1, 0), (2, 5), (3, -5), (4, 5)]:
        one.using(priority=priority).enqueue(number)
        claimer.look_everywhere()
        assert not claimer.claim(10)

    order = []
    while handed_on := end(job):
        (job,) = handed_on
        order += args_of(handed_on)

    assert order == [2, 4, 1, 3]


@transactional
def test_keys_are_limited_one_by_one(claimer):
    for account in ("a", "a", "a", "b", "a"):
        per_account.enqueue(account)

    assert args_of(claimer.claim(10)) == ["a", "a", "b"]


@transactional
def test_a_job_needs_a_slot_of_each_of_its_keys_or_takes_none(claimer, end):
    for kind in ("a", "a", "b", "c", "d"):
        both.enqueue(kind)

    jobs = claimer.claim(10)

    assert args_of(jobs) == ["a", "b", "c"]
    assert set(Waiter.objects.values_list("key", flat=True)) == {"all"}
    assert Slot.objects.count() == 6


@transactional
def test_a_waiter_that_lacks_another_key_by_now_lets_the_next_one_pass(claimer, end):
    for kind in ("a", "b", "c", "a", "d"):
        both.enqueue(kind)
    jobs = claimer.claim(10)

    (passed,) = end(jobs[1])

    assert args_of([passed]) == ["d"]
    assert Waiter.objects.get().key == "kind:a"
    assert args_of(end(jobs[0])) == ["a"]
    assert Slot.objects.count() == 6


@transactional
def test_a_call_without_a_key_and_a_task_without_a_limit_are_not_held_back(claimer):
    calls = [(maybe, [True], {}), (maybe, [False], {}), (maybe, [False], {})]
    default_task_backend.enqueue_all([*calls, (plain, [9], {})])
    maybe.enqueue(True)

    assert args_of(claimer.claim(10)) == [True, False, 9, True]


@transactional
def test_the_attributes_of_a_function_are_a_limit_as_well(claimer):
    result = spelled.enqueue("a")
    for _ in range(3):
        spelled.enqueue("a")

    assert len(claimer.claim(10)) == 2
    assert Job.objects.get(pk=result.id).concurrency_key == "spelled:a"


@transactional
def test_with_discard_the_others_are_discarded(db, claimer):
    first, second = single.enqueue(1), single.enqueue(2)

    jobs = claimer.claim(10)
    executor = outcomes.Executor(NODE, "default", type(default_task_backend))
    from windlass.jobs import execution

    found = [execution.run(job, executor) for job in jobs]
    lifecycle.record(db, NODE, [outcome.move for outcome in found])

    first.refresh()
    second.refresh()
    assert (first.state, first.return_value) == ("succeeded", 1)
    assert (second.state, second.reason) == ("discarded", "limit")
    assert second.return_value is None
    assert Job.objects.get(pk=second.id).attempts == 0


@transactional
def test_a_queue_may_be_limited_as_a_whole(db):
    limits = Limits("default", {"default": 2})
    claimer = make_claimer(db, NODE, limits)
    for number in range(4):
        plain.enqueue(number)

    jobs = claimer.claim(10)
    assert args_of(jobs) == [0, 1]

    lifecycle.record(db, NODE, [lifecycle.complete(Attempt(jobs[0], NODE, 1, 2), None)])
    assert args_of(flat(limits.release(db, NODE, jobs[:1], taker=ONE))) == [2]


@transactional
def test_a_job_with_a_rate_keeps_no_slot_while_it_waits_for_its_turn(claimer, end):
    for number in range(2):
        rated.enqueue(number)

    (job,) = claimer.claim(10)
    assert end(job) == []
    claimer.look_everywhere()
    assert not claimer.claim(10)

    assert not Slot.objects.exists()
    assert states() == ["scheduled", "succeeded"]


@transactional
def test_a_script_is_limited_too_and_hands_its_slot_on(claimer):
    for number in range(3):
        one.enqueue(number)

    (claimed,) = api.claim_ready_jobs(10)
    assert not api.claim_ready_jobs(10)
    api.execute_claimed_job(claimed)

    claimer.look_everywhere()
    assert args_of(claimer.claim(10)) == [1]


# Chains: one slot for several jobs that run one after another


@transactional
def test_a_slot_that_goes_to_several_is_held_until_the_last_has_ended(claimer, end):
    for number in range(7):
        one.enqueue(number)
    (job,) = claimer.claim(10)

    chain = end(job, taker=CHAIN)

    assert args_of(chain) == [1, 2, 3]
    assert str(Slot.objects.get().job) == chain[-1].id
    assert end(*chain[:2], taker=CHAIN) == []
    claimer.look_everywhere()
    assert not claimer.claim(10)
    assert args_of(end(chain[-1], taker=CHAIN)) == [4, 5, 6]


@transactional
def test_a_slot_whose_chain_is_given_back_stays_with_the_one_that_runs(
    db, claimer, end, limits
):
    for number in range(7):
        one.enqueue(number)
    (job,) = claimer.claim(10)
    running, *behind = end(job, taker=CHAIN)

    with db.transaction():
        lifecycle.record(db, NODE, [lifecycle.release(each) for each in behind])
        keepers = {behind[-1].id: running}
        assert not limits.release(db, NODE, behind, taker=ONE, keepers=keepers)

    limits.sweep(db, after="")
    claimer.look_everywhere()
    assert not claimer.claim(10)
    assert Slot.objects.get().job == uuid.UUID(running.id)
    assert len(end(running)) == 1


@transactional
def test_with_more_places_than_were_freed_only_those_are_handed_on(
    claimer, end, monkeypatch
):
    for number in range(9):
        one.enqueue(number)
    (job,) = claimer.claim(10)
    set_limit(monkeypatch, 3)

    assert args_of(end(job, taker=CHAIN)) == [1, 2, 3]
    assert Slot.objects.count() == 1


@transactional
def test_several_slots_of_a_key_get_a_chain_each(claimer, end):
    for number in range(10):
        per_account.enqueue("a", number)
    jobs = claimer.claim(10)

    handed_on = end(*jobs, taker=CHAIN)

    assert sorted(json.loads(job.args)[1] for job in handed_on) == [2, 3, 4, 5, 6, 7]
    assert Slot.objects.count() == 2


# Changes


def set_limit(monkeypatch, limit):
    monkeypatch.setattr(one.func, LIMITS, (Limit("one", limit, "block"),))


@transactional
def test_a_raised_limit_lets_more_of_those_that_wait_run(
    db, claimer, limits, monkeypatch
):
    for number in range(4):
        one.enqueue(number)
    claimer.claim(10)
    set_limit(monkeypatch, 3)

    limits.sweep(db, after="")
    claimer.look_everywhere()

    assert args_of(claimer.claim(10)) == [1, 2]


@transactional
def test_a_lowered_limit_admits_nobody_until_enough_have_ended(
    claimer, end, monkeypatch
):
    set_limit(monkeypatch, 3)
    for number in range(5):
        one.enqueue(number)
    jobs = claimer.claim(10)
    assert len(jobs) == 3
    set_limit(monkeypatch, 1)

    assert end(jobs[0]) == []
    assert end(jobs[1]) == []
    assert args_of(end(jobs[2])) == [3]


@transactional
def test_a_lowered_limit_counts_the_places_that_there_were_before(
    claimer, end, monkeypatch
):
    set_limit(monkeypatch, 3)
    for number in range(3):
        one.enqueue(number)
    jobs = claimer.claim(10)
    set_limit(monkeypatch, 1)
    # The first place is free now, the others are not.
    assert end(jobs[0]) == []
    for number in (3, 4):
        one.enqueue(number)

    assert claimer.claim(10) == []
    assert end(jobs[1]) == []
    assert args_of(end(jobs[2])) == [3]


@transactional
def test_a_limit_that_is_gone_lets_all_run(db, claimer, limits, monkeypatch):
    for number in range(4):
        one.enqueue(number)
    claimer.claim(10)
    monkeypatch.delattr(one.func, LIMITS)

    limits.sweep(db, after="")
    claimer.look_everywhere()

    assert args_of(claimer.claim(10)) == [1, 2, 3]


# Who does not end as it should


@transactional
def test_a_slot_whose_job_nobody_holds_is_freed_and_its_key_woken(db, claimer, limits):
    for number in range(3):
        one.enqueue(number)
    (job,) = claimer.claim(10)
    # As after a rescue.
    lifecycle.record(db, NODE, [lifecycle.release(job, delay=3600)])

    limits.sweep(db, after="")
    claimer.look_everywhere()

    assert args_of(claimer.claim(10)) == [1]
    assert Slot.objects.get().job != job.id


@transactional
def test_a_slot_of_a_job_that_runs_is_never_swept(db, claimer, limits):
    for number in range(3):
        one.enqueue(number)
    claimer.claim(10)

    for _ in range(3):
        limits.sweep(db, after="")

    assert Slot.objects.count() == 1
    assert LiveJob.objects.blocked().count() == 2


@transactional
def test_the_same_job_claimed_again_does_not_own_the_slot_of_its_former_claim(
    db, claimer, limits
):
    one.enqueue(0)
    (job,) = claimer.claim(10)
    lifecycle.record(db, NODE, [lifecycle.release(job)])
    (again,) = take(db, node=OTHER)

    limits.sweep(db, after="")

    assert not Slot.objects.exists()
    assert again.claim == job.claim + 1


@transactional
@pytest.mark.parametrize("throw_away", ["cancel_job", "discard_blocked_jobs"])
def test_a_waiter_that_is_thrown_away_does_not_hold_up_those_behind_it(
    claimer, end, throw_away
):
    one.enqueue(0)
    (job,) = claimer.claim(10)
    gone, left = one.enqueue(1), one.enqueue(2)
    claimer.look_everywhere()
    claimer.claim(10)

    if throw_away == "cancel_job":
        api.cancel_job(gone.id)
    else:
        assert api.discard_blocked_jobs([gone.id]) == 1

    assert [handed.id for handed in end(job)] == [left.id]
    assert not Waiter.objects.exists()


@transactional
def test_a_waiters_row_without_a_job_is_passed_over(claimer, end):
    one.enqueue(0)
    (job,) = claimer.claim(10)
    gone, left = one.enqueue(1), one.enqueue(2)
    claimer.look_everywhere()
    claimer.claim(10)
    LiveJob.objects.filter(pk=gone.id).delete()

    assert [handed.id for handed in end(job)] == [left.id]


@transactional
def test_a_job_that_this_worker_does_not_serve_becomes_ready_for_others(claimer, end):
    for number in range(2):
        one.enqueue(number)
    (job,) = claimer.claim(10)

    assert end(job, taker=NONE) == []

    assert states() == ["ready", "succeeded"]
    assert not Slot.objects.exists()


@transactional
def test_a_waiter_of_a_paused_queue_is_not_started_and_holds_nobody_up(claimer, end):
    one.enqueue(0)
    (job,) = claimer.claim(10)
    one.using(queue_name="paused").enqueue(1)
    one.enqueue(2)
    claimer.look_everywhere()
    claimer.claim(10)
    api.QueueInfo("paused").pause()

    assert end(job) == []
    limits = claimer.limits
    limits.sweep(claimer.db, after="")
    claimer.look_everywhere()

    assert args_of(claimer.claim(10)) == [2]


@transactional
def test_a_retried_job_gives_its_slot_up_while_it_waits(db, claimer, limits):
    for number in range(2):
        one.enqueue(number)
    (job,) = claimer.claim(10)
    entry = {"cause": "error", "error": "E", "traceback": ""}
    move = lifecycle.fail(Attempt(job, NODE, 1.0, 2.0), entry, retry_in=60.0)

    lifecycle.record(db, NODE, [move])

    assert args_of(flat(limits.release(db, NODE, [job], taker=ONE))) == [1]


@transactional
def test_keys_beyond_the_first_sweep_are_swept_by_the_next(db, claimer, limits):
    for number in range(450):
        per_account.enqueue(f"{number:04}")
        per_account.enqueue(f"{number:04}")
        per_account.enqueue(f"{number:04}")
    while claimer.claim(200):
        claimer.look_everywhere()
    assert Waiter.objects.count() == 450
    Slot.objects.all().delete()

    after = ""
    for _ in range(3):
        after = limits.sweep(db, after=after)

    assert not Waiter.objects.exists()
    assert after == "account:0449"
    assert limits.sweep(db, after=after) == ""


# Any order of events


class AnyOrder(RuleBasedStateMachine):
    """Jobs of two keys, two nodes, releases, rescues and sweeps in any order."""

    def __init__(self):
        super().__init__()
        for model in (LiveJob, Slot, Waiter):
            model.objects.all().delete()
        self.db = make_dialect("default")
        self.limits = Limits("default", {})
        self.running = {NODE: [], OTHER: []}

    @rule(account=st.sampled_from("ab"), priority=st.integers(-1, 1))
    def enqueue(self, account, priority):
        per_account.using(priority=priority).enqueue(account)

    @rule(node=st.sampled_from([NODE, OTHER]), limit=st.integers(1, 5))
    def claim(self, node, limit):
        claimer = make_claimer(self.db, node, self.limits)
        self.running[node] += claimer.claim(limit)

    @rule(node=st.sampled_from([NODE, OTHER]), data=st.data(), again=st.booleans())
    def end(self, node, data, again):
        if not self.running[node]:
            return
        job = data.draw(st.sampled_from(self.running[node]))
        self.running[node].remove(job)
        move = (
            lifecycle.release(job)
            if again
            else lifecycle.complete(Attempt(job, node, 1.0, 2.0), None)
        )
        with self.db.transaction():
            lifecycle.record(self.db, node, [move])
            taker = Taker(data.draw(st.integers(0, 1)))
            chains = self.limits.release(self.db, node, [job], taker=taker)
            self.running[node] += flat(chains)

    @rule(node=st.sampled_from([NODE, OTHER]))
    def die(self, node):
        moves = [lifecycle.release(job) for job in self.running[node]]
        self.running[node] = []
        lifecycle.record(self.db, node, moves)

    @rule()
    def sweep(self):
        self.limits.sweep(self.db, after="")

    @invariant()
    def never_more_than_the_limit_run(self):
        by_key = [args_of([job])[0] for jobs in self.running.values() for job in jobs]
        assert by_key.count("a") <= 2
        assert by_key.count("b") <= 2

    @invariant()
    def the_rows_say_what_the_nodes_know(self):
        known = {(j.id, j.claim) for jobs in self.running.values() for j in jobs}
        held = LiveJob.objects.running().values_list("id", "claim")
        assert {(str(id), claim) for id, claim in held} == known

    def teardown(self):
        # However it came to this, all of it can be worked off.
        left = LiveJob.objects.count()
        for _ in range(3 * left + 3):
            self.die(NODE)
            self.die(OTHER)
            self.sweep()
            self.claim(NODE, 5)
            jobs, self.running[NODE] = self.running[NODE], []
            moves = [lifecycle.complete(Attempt(j, NODE, 1.0, 2.0), None) for j in jobs]
            lifecycle.record(self.db, NODE, moves)
        assert not LiveJob.objects.exists()


@transactional
def test_in_any_order_no_limit_is_passed_and_nothing_waits_for_ever():
    class Machine(AnyOrder):
        pass

    machine = Machine.TestCase
    machine.settings = hypothesis_settings(
        max_examples=25, stateful_step_count=20, deadline=None
    )
    machine().runTest()
