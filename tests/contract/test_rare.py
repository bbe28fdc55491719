"""Moves of jobs that no node holds, and of jobs that have ended."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, transaction
from django.utils import timezone

from tests.contract.rows import (
    NODE,
    OTHER,
    back,
    end,
    ended,
    hours,
    is_id,
    is_null,
    live,
    new,
    places,
    several,
    state,
    states,
    take,
    take_new,
)
from windlass.db import Lane, rare
from windlass.models import EndedJob, LiveJob

REVIVABLE = ("failed", "cancelled", "discarded")
HISTORY = [{"attempt": 1, "cause": "error", "traceback": "é🚀\\"}]


def one_in_each_state(dialect):
    """A job in each state, by state; the scheduled one waits for a retry."""
    jobs = {}
    for end_state in ("succeeded", *REVIVABLE):
        (jobs[end_state],) = take_new(dialect)
        dialect.finish(NODE, [end(jobs[end_state], end_state)])
    (jobs["running"],) = take_new(dialect)
    (jobs["scheduled"],) = take_new(dialect)
    history = json.dumps(HISTORY)
    dialect.put_back(NODE, [back(jobs["scheduled"], 3600, history=history)])
    dialect.insert(blocked := new("blocked"))
    rare.hold(dialect, [blocked.id], hold="limit")
    dialect.insert(ready := new("ready"))
    jobs |= {"blocked": blocked, "ready": ready}
    assert states() == dict.fromkeys(jobs, 1)
    return jobs


def ids(jobs):
    return [job.id for job in jobs.values()]


def test_waiting_jobs_can_be_ended_and_no_others(dialect):
    jobs = one_in_each_state(dialect)

    moved = rare.end_waiting(
        dialect, [*ids(jobs), new().id], state="cancelled", reason="cancelled"
    )

    assert moved == {jobs[name].id for name in ("scheduled", "blocked", "ready")}
    others = ("running", "succeeded", "failed", "discarded")
    assert states() == {"cancelled": 4, **dict.fromkeys(others, 1)}
    row = ended(jobs["ready"])
    assert (row.state, row.reason, row.node) == ("cancelled", "cancelled", None)
    assert (row.started_at, row.return_value) == (None, None)
    assert abs((timezone.now() - row.finished_at).total_seconds()) < 5
    assert is_null(EndedJob, "return_value", jobs["ready"])
    assert is_null(EndedJob, "metadata", jobs["ready"])
    retried = ended(jobs["scheduled"])
    assert (retried.attempts, retried.claim, retried.history) == (1, 1, HISTORY)


def test_ending_is_done_once(dialect):
    dialect.insert(job := new())
    kinds = {"state": "discarded", "reason": "limit"}

    assert rare.end_waiting(dialect, [job.id], **kinds) == {job.id}
    assert rare.end_waiting(dialect, [job.id], **kinds) == set()

    assert (ended(job).state, ended(job).reason) == ("discarded", "limit")


def test_only_failed_jobs_turn_into_discarded_ones(dialect):
    jobs = one_in_each_state(dialect)
    before = ended(jobs["failed"])

    assert rare.discard_failed(dialect, ids(jobs)) == {jobs["failed"].id}

    row = ended(jobs["failed"])
    assert row.state == "discarded"
    assert (row.finished_at, row.history) == (before.finished_at, before.history)
    assert states()["discarded"] == 2


def test_ready_and_scheduled_jobs_can_be_held_and_no_others(dialect):
    jobs = one_in_each_state(dialect)

    moved = rare.hold(dialect, ids(jobs), hold="workflow")

    assert moved == {jobs["ready"].id, jobs["scheduled"].id}
    assert states()["blocked"] == 3
    assert live(jobs["blocked"]).hold == "limit"
    row = live(jobs["ready"])
    assert (row.hold, row.node) == ("workflow", None)
    assert row.available_at.year > 9000


def test_blocked_jobs_become_ready_with_a_fresh_time_and_no_others(dialect):
    jobs = one_in_each_state(dialect)
    before = live(jobs["ready"]).available_at

    assert rare.unhold(dialect, ids(jobs)) == {jobs["blocked"].id}

    assert live(jobs["blocked"]).hold == ""
    assert live(jobs["blocked"]).available_at >= before
    assert places(take(dialect, 5)) == ["ready", "blocked"]


def test_ended_jobs_live_again_in_the_states_named(dialect):
    jobs = one_in_each_state(dialect)

    moved = rare.revive(dialect, [*ids(jobs), new().id], states=REVIVABLE)

    assert moved == {jobs[name].id for name in REVIVABLE}
    others = ("succeeded", "running", "scheduled", "blocked")
    assert states() == {"ready": 4, **dict.fromkeys(others, 1)}
    assert rare.revive(dialect, ids(jobs), states=REVIVABLE) == set()


def test_a_revived_job_keeps_its_past_and_gets_a_fresh_budget(dialect):
    policy = {"on_lost": "fail"}
    (job,) = take_new(dialect, max_attempts=3, metadata={"m": 1}, policy=policy)
    dialect.finish(NODE, [end(job, "failed", history=json.dumps(HISTORY), crashed=1)])

    rare.revive(dialect, [job.id], states=REVIVABLE)

    row = live(job)
    assert (row.attempts, row.max_attempts, row.crashes) == (1, 4, 0)
    assert (row.node, row.started_at, row.hold) == (None, None, "")
    assert row.history == HISTORY
    assert row.metadata == {"m": 1}
    assert row.policy["on_lost"] == "fail"
    assert row.enqueued_at == job.enqueued_at
    assert row.available_at > job.available_at


def test_the_budget_of_each_retry_is_the_first_ones(dialect):
    (job,) = take_new(dialect, max_attempts=2)
    for spent in range(1, 4):
        dialect.finish(NODE, [end(job, "failed")])
        rare.revive(dialect, [job.id], states=REVIVABLE)
        assert (live(job).attempts, live(job).max_attempts) == (spent, spent + 2)
        (job,) = take(dialect)


def test_the_claim_of_a_former_life_stays_stale(dialect):
    (ghost,) = take_new(dialect)
    dialect.finish(NODE, [end(ghost, "failed", "lost")])
    rare.revive(dialect, [ghost.id], states=REVIVABLE)
    (job,) = take(dialect)

    assert job.claim == ghost.claim + 1
    assert dialect.finish(NODE, [end(ghost)]) == set()
    assert dialect.put_back(NODE, [back(ghost)]) == set()
    assert state(job) == "running"


def prune(dialect, state="succeeded", *, since=None, before=None, limit=9):
    return rare.prune(
        dialect,
        among=lambda ended: ended.filter(state=state),
        since=since,
        before=before or hours(1),
        limit=limit,
    )


def in_another_connection(function, *arguments):
    try:
        return function(*arguments)
    finally:
        connection.close()


def test_prune_deletes_the_oldest_up_to_a_limit(dialect):
    jobs = take_new(dialect, 10)
    dialect.finish(
        NODE, [end(job, finished_at=1_000.0 + n) for n, job in enumerate(jobs)]
    )
    before = dialect.moment(1_008.0)

    counts = [len(prune(dialect, before=before, limit=3)) for _each in range(4)]

    assert counts == [3, 3, 2, 0]
    assert {str(id) for id in EndedJob.objects.values_list("id", flat=True)} == {
        job.id for job in jobs[8:]
    }


def test_prune_takes_the_oldest_first(dialect):
    jobs = take_new(dialect, 4)
    dialect.finish(
        NODE, [end(job, finished_at=1_000.0 - n) for n, job in enumerate(jobs)]
    )

    gone = prune(dialect, before=hours(0), limit=2)

    assert gone == [dialect.moment(997.0), dialect.moment(998.0)]
    assert [ended(job) is None for job in jobs] == [False, False, True, True]


def test_prune_skips_what_ended_before_the_span(dialect):
    jobs = take_new(dialect, 4)
    dialect.finish(
        NODE, [end(job, finished_at=1_000.0 + n) for n, job in enumerate(jobs)]
    )

    prune(dialect, since=dialect.moment(1_002.0), before=hours(0))

    assert [ended(job) is None for job in jobs] == [False, False, True, True]


@pytest.mark.django_db(transaction=True)
def test_prune_leaves_alone_what_someone_else_has_locked(dialect):
    if not dialect.connection.features.has_select_for_update_skip_locked:
        pytest.skip("one writer at a time")
    jobs = take_new(dialect, 2)
    dialect.finish(NODE, [end(job) for job in jobs])
    rows = EndedJob.objects.filter(pk=jobs[0].id).select_for_update()

    with transaction.atomic(), ThreadPoolExecutor(1) as thread:
        assert rows.get()
        gone = thread.submit(in_another_connection, prune, dialect)
        assert len(gone.result()) == 1

    assert ended(jobs[0])
    assert not ended(jobs[1])


def test_prune_deletes_only_the_states_named(dialect):
    one_in_each_state(dialect)

    assert len(prune(dialect, "failed", before=hours(1))) == 1
    assert len(prune(dialect, before=hours(-1))) == 0

    assert set(states()) == {
        *("scheduled", "blocked", "ready", "running"),
        *("succeeded", "cancelled", "discarded"),
    }


def test_holders_are_the_nodes_that_hold_jobs(dialect):
    assert rare.holders(dialect) == set()
    dialect.insert_many(several(3))
    take(dialect, 1, node=NODE)
    take(dialect, 1, node=OTHER)

    assert rare.holders(dialect) == {NODE, OTHER}


def test_holdings_count_the_jobs_of_each_node_in_one_backend(dialect):
    dialect.insert_many([*several(4), new(backend="other")])
    take(dialect, 2, node=NODE)
    take(dialect, 1, node=OTHER)

    assert rare.holdings(dialect, "default") == {NODE: 2, OTHER: 1}
    assert rare.holdings(dialect, "other") == {}


def test_queues_are_ready_since_their_oldest_job_that_may_run(dialect):
    dialect.insert_many([new(queue="a"), new(queue="a", priority=9), new(queue="b")])
    dialect.insert(new(queue="later", run_after=hours(1)))
    dialect.insert(new(queue="x", backend="other"))
    dialect.insert(held := new(queue="held"))
    rare.hold(dialect, [held.id], hold="limit")
    take(dialect, 1, Lane("b", 0))
    oldest = LiveJob.objects.get(queue_name="a", nice=0)
    since = hours(-2)
    LiveJob.objects.filter(pk=oldest.pk).update(available_at=since)

    assert rare.ready_since(dialect, "default", before=hours(0)) == {"a": since}
    assert rare.ready_since(dialect, "default", before=hours(-1)).keys() == {"a"}
    assert rare.ready_since(dialect, "default", before=hours(-3)) == {}


def test_what_a_node_holds_comes_as_it_was_claimed(dialect):
    columns = {"metadata": {"m": "é"}, "policy": {"on_lost": "retry"}}
    dialect.insert_many(several(3, kwargs={"k": [1]}, **columns))
    claimed = take(dialect, 2, node=NODE)
    take(dialect, 1, node=OTHER)

    held = rare.held_by(dialect, NODE, limit=10)

    assert len(rare.held_by(dialect, NODE, limit=1)) == 1
    assert rare.held_by(dialect, 12345, limit=10) == []
    for mine, theirs in zip(sorted(held, key=lambda job: job.id), claimed, strict=True):
        assert is_id(mine.id)
        for name in ("args", "kwargs", "metadata", "policy"):
            assert json.loads(getattr(mine, name)) == json.loads(getattr(theirs, name))
        assert mine._replace(
            args="", kwargs="", metadata="", policy=""
        ) == theirs._replace(args="", kwargs="", metadata="", policy="")


def test_what_a_node_holds_can_be_finished_or_put_back(dialect):
    take_new(dialect, 2)
    first, second = rare.held_by(dialect, NODE, limit=10)

    assert dialect.finish(NODE, [end(first)]) == {first.id}
    assert dialect.put_back(NODE, [back(second)]) == {second.id}


def test_a_running_attempt_writes_about_itself_while_it_holds_the_job(dialect):
    (job,) = take_new(dialect)

    assert rare.annotate(dialect, NODE, job, progress={"current": 1})
    assert live(job).progress == {"current": 1}
    assert not rare.annotate(dialect, OTHER, job, progress={"current": 2})
    assert not rare.annotate(
        dialect, NODE, job._replace(claim=2), progress={"current": 2}
    )
    dialect.finish(NODE, [end(job)])
    assert not rare.annotate(dialect, NODE, job, progress={"current": 2})

    assert ended(job).progress == {"current": 1}


@pytest.mark.parametrize("count", [500])
def test_batches_move_whole(dialect, count):
    dialect.insert_many(jobs := several(count))
    all_ids = [job.id for job in jobs]

    assert rare.hold(dialect, all_ids, hold="limit") == set(all_ids)
    assert rare.unhold(dialect, all_ids) == set(all_ids)
    ending = {"state": "cancelled", "reason": "cancelled"}
    assert rare.end_waiting(dialect, all_ids, **ending) == set(all_ids)
    assert rare.revive(dialect, all_ids, states=REVIVABLE) == set(all_ids)
    assert LiveJob.objects.count() == count
    assert not EndedJob.objects.exists()


def test_nothing_named_moves_nothing(dialect):
    dialect.insert(new())

    assert rare.hold(dialect, [], hold="limit") == set()
    assert rare.unhold(dialect, []) == set()
    assert rare.end_waiting(dialect, [], state="cancelled", reason="") == set()
    assert rare.revive(dialect, [], states=REVIVABLE) == set()
    assert rare.discard_failed(dialect, []) == set()
    assert states() == {"ready": 1}
