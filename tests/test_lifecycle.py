"""The table of verbs, and one test or more for each of its lines."""

import json
import time

import pytest

from tests.contract.rows import (
    NODE,
    OTHER,
    ended,
    hours,
    live,
    new,
    several,
    state,
    states,
    take,
)
from windlass import db
from windlass.exceptions import StaleJob
from windlass.jobs import holding, lifecycle
from windlass.jobs.lifecycle import TRANSITIONS, Attempt
from windlass.models import EndedJob, Job, LiveJob, State
from windlass.models.history import worker_id
from windlass.models.jobs import ENDS

pytestmark = pytest.mark.django_db
VERBS = {transition.verb: transition for transition in TRANSITIONS}


@pytest.fixture
def dialect():
    return db.dialect("default")


@pytest.fixture
def claimed(dialect):
    """Enqueue a job and claim it."""

    def claimed(**columns):
        lifecycle.enqueue(dialect, [new(**columns)])
        (job,) = take(dialect)
        return job

    return claimed


def attempt(job, seconds=1.0):
    now = time.time()
    return Attempt(job, NODE, now - seconds, now)


def entry(job, cause="error"):
    return {"attempt": job.attempts, "worker": worker_id(NODE), "cause": cause}


def said(dialect, move):
    """Record one move; give back the state it led to."""
    lifecycle.record_one(dialect, NODE, move)
    return state(move)


# The table


def test_the_table_names_each_verb_once_and_only_known_states():
    assert list(VERBS) == [
        *(
            "enqueue",
            "refuse",
            "claim",
            "complete",
            "advance",
            "fail",
            "snooze",
            "release",
            "rescue",
            "expire",
        ),
        *(
            "block",
            "divert",
            "hand_on",
            "unblock",
            "hasten",
            "cancel",
            "discard",
            "retry",
            "repeat",
            "prune",
        ),
    ]
    for transition in TRANSITIONS:
        assert {*transition.leaves, *transition.leads_to} <= set(State)
        assert transition.said_by


def test_each_verb_is_a_function_of_the_module_or_of_the_one_beside_it():
    for verb in VERBS:
        said = getattr(lifecycle, verb, None) or getattr(holding, verb)
        assert callable(said)
        assert said.__doc__


def test_an_end_is_left_only_by_retry_repeat_prune_and_the_discard_of_a_failure():
    leaving = {t.verb: set(t.leaves) & set(ENDS) for t in TRANSITIONS}

    assert {verb: ends for verb, ends in leaving.items() if ends} == {
        "discard": {State.FAILED},
        "retry": {State.FAILED, State.CANCELLED, State.DISCARDED},
        "repeat": set(ENDS),
        "prune": set(ENDS),
    }


def test_every_state_can_be_reached_and_left():
    reached = {state for t in TRANSITIONS for state in t.leads_to}
    left = {state for t in TRANSITIONS for state in t.leaves}

    assert reached == left == set(State)


# Enqueue and claim


def test_enqueue_leads_to_ready_or_scheduled(dialect):
    ready, scheduled = new(), new(run_after=hours(1))

    times = lifecycle.enqueue(dialect, [ready, scheduled])

    assert (state(ready), state(scheduled)) == ("ready", "scheduled")
    assert times == [live(ready).enqueued_at, live(scheduled).enqueued_at]


def test_claim_counts_an_attempt_and_numbers_the_hold(dialect):
    lifecycle.enqueue(dialect, [new()])

    (job,) = lifecycle.claim(dialect, NODE, "default", [db.Lane("default", 0)], 1)

    assert (job.attempts, job.claim) == (1, 1)
    assert state(job) == "running"


# The end of an attempt


def test_complete(dialect, claimed):
    job = claimed()
    done = attempt(job)

    assert said(dialect, lifecycle.complete(done, '{"sum": 3}')) == "succeeded"

    row = ended(job)
    assert (row.reason, row.return_value, row.history) == ("", {"sum": 3}, None)
    duration = Job.objects.get(pk=job.id).duration.total_seconds()
    assert duration == pytest.approx(1.0, abs=0.01)


def test_fail_waits_for_another_attempt(dialect, claimed):
    job = claimed(max_attempts=2)

    move = lifecycle.fail(attempt(job), entry(job), retry_in=60.0)

    assert said(dialect, move) == "scheduled"
    assert (live(job).attempts, live(job).history) == (1, [entry(job)])


def test_fail_ends_with_the_cause_as_its_reason(dialect, claimed):
    job = claimed()

    move = lifecycle.fail(attempt(job), entry(job, "refused"), retry_in=None)

    assert said(dialect, move) == "failed"
    assert ended(job).reason == "refused"
    assert ended(job).history == [entry(job, "refused")]


def test_a_retry_without_delay_is_ready_at_once(dialect, claimed):
    job = claimed(max_attempts=2)

    assert said(dialect, lifecycle.fail(attempt(job), entry(job), retry_in=0.0)) == (
        "ready"
    )


def test_history_grows_by_an_entry_each_attempt(dialect, claimed):
    job = claimed(max_attempts=3)
    lifecycle.record_one(
        dialect, NODE, lifecycle.fail(attempt(job), entry(job), retry_in=0.0)
    )
    (job,) = take(dialect)
    lifecycle.record_one(
        dialect, NODE, lifecycle.fail(attempt(job), entry(job), retry_in=None)
    )

    assert [each["attempt"] for each in ended(job).history] == [1, 2]


def test_snooze_gives_the_attempt_back(dialect, claimed):
    job = claimed()

    assert said(dialect, lifecycle.snooze(attempt(job), 60.0)) == "scheduled"

    row = live(job)
    assert (row.attempts, row.claim, row.history) == (0, 1, None)


def test_release_gives_the_attempt_back_at_once(dialect, claimed):
    job = claimed()

    assert said(dialect, lifecycle.release(job)) == "ready"

    assert live(job).attempts == 0


def test_cancel_running_keeps_why(dialect, claimed):
    job = claimed()

    move = lifecycle.cancel_running(attempt(job), entry(job, "cancelled"))

    assert said(dialect, move) == "cancelled"
    assert ended(job).reason == "cancelled"
    assert ended(job).history == [entry(job, "cancelled")]


def test_interrupt_releases_what_may_run_again(dialect, claimed):
    job = claimed(max_attempts=2)

    move = lifecycle.interrupt(attempt(job), entry(job, "interrupted"))

    assert said(dialect, move) == "ready"
    assert live(job).attempts == 0


def test_interrupt_ends_what_must_not_start_twice(dialect, claimed):
    job = claimed()

    move = lifecycle.interrupt(attempt(job), entry(job, "interrupted"))

    assert said(dialect, move) == "failed"
    assert ended(job).reason == "interrupted"


# The loser gets StaleJob


@pytest.mark.parametrize(
    "verb",
    [
        lambda job: lifecycle.complete(attempt(job), None),
        lambda job: lifecycle.fail(attempt(job), entry(job), retry_in=None),
        lambda job: lifecycle.fail(attempt(job), entry(job), retry_in=1.0),
        lambda job: lifecycle.snooze(attempt(job), 1.0),
        lifecycle.release,
        lambda job: lifecycle.cancel_running(attempt(job), entry(job)),
    ],
)
def test_the_loser_is_told_and_changes_nothing(dialect, claimed, verb):
    ghost = claimed()
    lifecycle.record_one(dialect, NODE, lifecycle.release(ghost))
    (job,) = take(dialect, node=OTHER)

    with pytest.raises(StaleJob, match=f"{ghost.id}.*claim 1.*{worker_id(NODE)}"):
        lifecycle.record_one(dialect, NODE, verb(ghost))

    assert live(job).node == OTHER
    assert state(job) == "running"


def test_a_rescued_job_refuses_the_result_of_its_ghost(dialect, claimed):
    ghost = claimed()
    rescue(dialect, [ghost], began=time.time())
    assert state(ghost) == "failed"

    with pytest.raises(StaleJob):
        lifecycle.record_one(dialect, NODE, lifecycle.complete(attempt(ghost), "1"))

    assert ended(ghost).reason == "lost"


def test_a_batch_tells_who_won(dialect, claimed):
    winner, loser = claimed(), claimed()
    lifecycle.record_one(dialect, NODE, lifecycle.release(loser))
    moves = [lifecycle.complete(attempt(job), None) for job in (winner, loser)]

    assert lifecycle.record(dialect, NODE, moves) == {winner.id}
    assert lifecycle.record(dialect, NODE, []) == set()


def test_ends_and_returns_are_recorded_together(dialect, claimed):
    done, retried, released = (claimed(max_attempts=2) for _each in range(3))
    moves = [
        lifecycle.complete(attempt(done), None),
        lifecycle.fail(attempt(retried), entry(retried), retry_in=60.0),
        lifecycle.release(released),
    ]

    assert lifecycle.record(dialect, NODE, moves) == {
        job.id for job in (done, retried, released)
    }
    assert states() == {"succeeded": 1, "scheduled": 1, "ready": 1}


# Recovery


def decide(job, began):
    if began is None:
        return lifecycle.release(job)
    return lifecycle.crash(attempt(job), entry(job, "lost"))


def rescue(dialect, jobs, began):
    return lifecycle.rescue(dialect, NODE, jobs, lambda job: decide(job, began))


def test_what_never_started_is_released(dialect, claimed):
    job = claimed()

    assert set(rescue(dialect, [job], began=None)) == {job.id}

    assert state(job) == "ready"
    assert (live(job).attempts, live(job).crashes, live(job).history) == (0, 0, None)


def test_what_started_and_may_run_again_does(dialect, claimed):
    job = claimed(max_attempts=2)

    rescue(dialect, [job], began=time.time())

    assert state(job) == "ready"
    assert (live(job).attempts, live(job).crashes) == (1, 1)
    assert live(job).history == [entry(job, "lost")]


def test_what_started_and_may_not_run_again_fails(dialect, claimed):
    job = claimed()

    rescue(dialect, [job], began=time.time())

    row = ended(job)
    assert (row.state, row.reason, row.crashes) == ("failed", "lost", 1)


def test_a_rescuer_learns_what_became_of_each_and_only_of_what_it_moved(
    dialect, claimed
):
    gone, started, waiting = claimed(), claimed(), claimed()
    lifecycle.record_one(dialect, NODE, lifecycle.complete(attempt(gone), None))
    began = {started.id: time.time(), gone.id: time.time()}

    moves = lifecycle.rescue(
        dialect,
        NODE,
        [gone, started, waiting],
        lambda job: decide(job, began.get(job.id)),
    )

    assert set(moves) == {started.id, waiting.id}
    assert state(gone) == "succeeded"
    assert (state(started), state(waiting)) == ("failed", "ready")


@pytest.mark.parametrize(
    ("on_lost", "attempts", "max_attempts", "crashes", "again"),
    [
        (None, 1, 1, 0, False),
        (None, 1, 2, 0, True),
        (None, 2, 2, 0, False),
        ("fail", 1, 1, 0, False),
        ("fail", 1, 9, 0, False),
        ("retry", 1, 1, 0, True),
        ("retry", 5, 1, 1, True),
    ],
)
def test_may_run_again(
    dialect, claimed, on_lost, attempts, max_attempts, crashes, again
):
    policy = {"on_lost": on_lost} if on_lost else {"other": 1}
    job = claimed(policy=policy)._replace(
        attempts=attempts, max_attempts=max_attempts, crashes=crashes
    )

    assert lifecycle.may_run_again(job) is again
    if on_lost is None:
        assert lifecycle.may_run_again(job._replace(policy=None)) is again


def test_a_job_that_kills_its_process_does_not_do_so_for_ever(dialect, claimed):
    job = claimed(policy={"on_lost": "retry"})
    for crash in range(1, lifecycle.CRASH_LIMIT):
        rescue(dialect, [job], began=time.time())
        assert live(job).crashes == crash
        (job,) = take(dialect)

    rescue(dialect, [job], began=time.time())

    assert state(job) == "failed"
    assert len(ended(job).history) == lifecycle.CRASH_LIMIT


def test_attempts_that_remain_do_not_keep_a_poison_job_alive(dialect, claimed):
    job = claimed(max_attempts=10)
    for _crash in range(2):
        lifecycle.record_one(dialect, NODE, decide(job, began=time.time()))
        (job,) = take(dialect)

    lifecycle.record_one(dialect, NODE, decide(job, began=time.time()))

    row = ended(job)
    assert (row.state, row.reason, row.attempts) == ("failed", "crashed", 3)
    assert "gone 3 times" in row.history[-1]["traceback"]


def test_how_many_crashes_are_too_many_can_be_said(dialect, claimed):
    job = claimed(max_attempts=10)

    move = lifecycle.crash(attempt(job), entry(job, "crashed"), crash_limit=1)

    assert move.state == "failed"


# Jobs that no node holds


def one_in_each_state(dialect, claimed):
    jobs = {}
    for end_state in ENDS:
        jobs[end_state.value] = job = claimed()
        move = lifecycle.complete(attempt(job), None)._replace(state=end_state.value)
        lifecycle.record_one(dialect, NODE, move)
    jobs["running"] = claimed()
    for name in ("ready", "blocked"):
        lifecycle.enqueue(dialect, [job := new()])
        jobs[name] = job
    lifecycle.block(dialect, [jobs["blocked"].id], "limit")
    lifecycle.enqueue(dialect, [job := new(run_after=hours(1))])
    jobs["scheduled"] = job
    assert states() == dict.fromkeys(jobs, 1)
    return jobs


@pytest.mark.parametrize(
    ("verb", "say"),
    [
        ("block", lambda dialect, ids: lifecycle.block(dialect, ids, "limit")),
        ("unblock", lifecycle.unblock),
        ("cancel", lifecycle.cancel),
        ("discard", lifecycle.discard),
        ("retry", lifecycle.retry),
    ],
)
def test_a_verb_moves_from_the_states_of_its_line_to_those_of_its_line(
    dialect, claimed, verb, say
):
    jobs = one_in_each_state(dialect, claimed)
    ids = [job.id for job in jobs.values()]
    # The code of a running job must be dead first: cancel_running says it.
    leaves = set(VERBS[verb].leaves) - {State.RUNNING}

    assert say(dialect, ids) == {jobs[state].id for state in leaves}

    for before, job in jobs.items():
        after = state(job)
        assert after in VERBS[verb].leads_to if before in leaves else after == before


def test_cancel_and_discard_say_why(dialect):
    cancelled, discarded = new(), new()
    lifecycle.enqueue(dialect, [cancelled, discarded])

    lifecycle.cancel(dialect, [cancelled.id])
    lifecycle.discard(dialect, [discarded.id], reason="duplicate")

    assert (ended(cancelled).state, ended(cancelled).reason) == (
        "cancelled",
        "cancelled",
    )
    assert (ended(discarded).state, ended(discarded).reason) == (
        "discarded",
        "duplicate",
    )


def test_retry_gives_a_fresh_budget_and_keeps_history(dialect, claimed):
    job = claimed(max_attempts=3)
    lifecycle.record_one(
        dialect, NODE, lifecycle.fail(attempt(job), entry(job), retry_in=None)
    )

    assert lifecycle.retry(dialect, [job.id]) == {job.id}

    (again,) = take(dialect)
    assert (again.attempts, again.max_attempts, again.claim) == (2, 4, 2)
    assert json.loads(again.history) == [entry(job)]


def test_prune_deletes_a_bounded_number_of_ended_jobs(dialect, claimed):
    for job in (claimed(), claimed(), claimed()):
        lifecycle.record_one(dialect, NODE, lifecycle.complete(attempt(job), None))
    lifecycle.enqueue(dialect, several(2))

    counts = [
        len(lifecycle.prune(dialect, before=hours(1), limit=2)) for _each in range(3)
    ]

    assert counts == [2, 1, 0]
    assert LiveJob.objects.count() == 2
    assert not EndedJob.objects.exists()
