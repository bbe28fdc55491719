"""The end of a claim: recorded once, for the claim that holds, and never else."""

import json

import pytest
from django.db import DatabaseError
from django.utils import timezone

from tests.contract.rows import (
    NODE,
    OTHER,
    back,
    end,
    ended,
    is_null,
    live,
    new,
    state,
    states,
    take,
    take_new,
)
from windlass.db import Lane
from windlass.models import EndedJob, Job, LiveJob

HISTORY = [{"attempt": 1, "worker": "a", "cause": "error", "traceback": "é\\\n'%s' 🚀"}]


def test_a_finished_job_moves_with_everything_it_had(dialect):
    dialect.insert(
        new(
            *(1, "two"),
            kwargs={"k": "v"},
            priority=3,
            max_attempts=5,
            metadata={"m": 1},
            policy={"on_lost": "retry"},
        )
    )
    (job,) = take(dialect, 1, Lane("default", -3))
    before = live(job)

    assert dialect.finish(NODE, [end(job, value={"sum": 3})]) == {job.id}

    assert live(job) is None
    row = ended(job)
    assert (row.state, row.reason) == ("succeeded", "")
    assert row.return_value == {"sum": 3}
    for name in (
        *("enqueued_at", "available_at", "node", "claim", "attempts", "max_attempts"),
        *("crashes", "backend_alias", "queue_name", "nice", "task_path", "args"),
        *("kwargs", "metadata", "policy", "progress", "history"),
    ):
        assert getattr(row, name) == getattr(before, name), name
    assert state(job) == "succeeded"


def test_times_are_those_of_the_attempt(dialect):
    (job,) = take_new(dialect)
    started, finished = 1_700_000_000.123456, 1_700_000_001.654321

    dialect.finish(NODE, [end(job, started_at=started, finished_at=finished)])

    row = ended(job)
    for found, given in ((row.started_at, started), (row.finished_at, finished)):
        assert abs((found - dialect.moment(given)).total_seconds()) < 0.0001
    assert abs(Job.objects.get(pk=job.id).duration.total_seconds() - 1.530865) < 0.001


@pytest.mark.parametrize("value", [0, "", [], {}, False, 1.5, "null", "é\\🚀%s\t"])
def test_return_values_come_back_as_they_were(dialect, value):
    (job,) = take_new(dialect)

    dialect.finish(NODE, [end(job, value=value)])

    assert ended(job).return_value == value
    assert Job.objects.get(pk=job.id).return_value == value


def test_no_return_value_is_null_and_not_jsons_null(dialect):
    (job,) = take_new(dialect)

    dialect.finish(NODE, [end(job)])

    assert is_null(EndedJob, "return_value", job)
    assert is_null(EndedJob, "history", job)


def test_a_megabyte_is_recorded(dialect):
    (job,) = take_new(dialect)
    big = "é\\\n" * 350_000

    dialect.finish(NODE, [end(job, value=big, history=json.dumps([{"t": big}]))])

    assert ended(job).return_value == big
    assert ended(job).history == [{"t": big}]


def test_history_is_replaced_when_given_and_kept_when_not(dialect):
    first, second = take_new(dialect, 2)
    for job in (first, second):
        dialect.put_back(NODE, [back(job, history=json.dumps(HISTORY))])
    first, second = take(dialect, 2)
    longer = [*HISTORY, {"attempt": 2}]

    dialect.finish(
        NODE,
        [end(first), end(second, "failed", "error", history=json.dumps(longer))],
    )

    assert ended(first).history == HISTORY
    assert ended(second).history == longer


def test_an_attempt_can_be_given_back_and_a_crash_counted(dialect):
    (job,) = take_new(dialect)

    dialect.finish(NODE, [end(job, "failed", "lost", attempt_back=1, crashed=1)])

    row = ended(job)
    assert (row.state, row.reason) == ("failed", "lost")
    assert (row.attempts, row.crashes, row.claim) == (0, 1, 1)


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled", "discarded"])
def test_every_end_can_be_recorded(dialect, state):
    (job,) = take_new(dialect)

    dialect.finish(NODE, [end(job, state)])

    assert states() == {state: 1}


# The fence


def test_the_wrong_node_is_refused(dialect):
    (job,) = take_new(dialect)

    assert dialect.finish(OTHER, [end(job)]) == set()

    assert live(job).node == NODE
    assert ended(job) is None


@pytest.mark.parametrize("claim", [0, 2])
def test_the_wrong_claim_is_refused(dialect, claim):
    (job,) = take_new(dialect)

    assert dialect.finish(NODE, [end(job)._replace(claim=claim)]) == set()

    assert live(job).claim == 1
    assert ended(job) is None


def test_a_claim_that_was_put_back_is_refused(dialect):
    (job,) = take_new(dialect)
    dialect.put_back(NODE, [back(job)])

    assert dialect.finish(NODE, [end(job)]) == set()
    assert state(job) == "ready"

    (again,) = take(dialect)
    assert dialect.finish(NODE, [end(job)]) == set()
    assert dialect.finish(NODE, [end(again)]) == {job.id}


def test_a_job_that_does_not_exist_is_refused(dialect):
    (job,) = take_new(dialect)
    gone = job._replace(id=new().id)

    assert dialect.finish(NODE, [end(gone)]) == set()
    assert dialect.finish(NODE, []) == set()


def test_telling_the_same_end_twice_is_accepted_and_stored_once(dialect):
    jobs = take_new(dialect, 3)
    ends = [end(job, value=place) for place, job in enumerate(jobs)]

    assert dialect.finish(NODE, ends[:2]) == {end.id for end in ends[:2]}
    # The answer got lost with the connection; meanwhile one more has ended.
    assert dialect.finish(NODE, ends) == {end.id for end in ends}
    assert dialect.finish(NODE, ends) == {end.id for end in ends}

    assert EndedJob.objects.count() == 3
    assert not LiveJob.objects.exists()
    assert [ended(job).return_value for job in jobs] == [0, 1, 2]


def test_a_ghosts_other_end_of_the_same_claim_is_refused(dialect):
    # A rescuer ends a job under the very node and claim of the worker it gave up.
    (job,) = take_new(dialect)
    assert dialect.finish(NODE, [end(job, "failed", "lost")])

    assert dialect.finish(NODE, [end(job, "succeeded", value=1)]) == set()
    assert dialect.finish(NODE, [end(job, "failed", "error")]) == set()
    later = end(job, "failed", "lost")
    later = later._replace(finished_at=later.finished_at + 3)
    assert dialect.finish(NODE, [later]) == set()

    assert (ended(job).state, ended(job).reason) == ("failed", "lost")


def test_a_batch_of_500_records_what_holds_and_refuses_the_rest(dialect):
    jobs = take_new(dialect, 500)
    stolen = jobs[::5]
    dialect.put_back(NODE, [back(job) for job in stolen])
    told = jobs[1::5]
    ends = {job.id: end(job, value=job.id) for job in jobs}
    dialect.finish(NODE, [ends[job.id] for job in told])
    strangers = [end(jobs[0]._replace(id=new().id)) for _each in range(3)]

    moved = dialect.finish(NODE, [*ends.values(), *strangers])

    assert moved == set(ends) - {job.id for job in stolen}
    assert states() == {"ready": 100, "succeeded": 400}
    values = EndedJob.objects.values_list("id", "return_value")
    assert all(str(id) == value for id, value in values)


def test_what_the_database_refuses_is_djangos_error_and_writes_nothing(dialect):
    good, bad = take_new(dialect, 2)

    with pytest.raises(DatabaseError):
        dialect.finish(NODE, [end(good), end(bad, "running")])

    assert states() == {"running": 2}
    # And the connection still works.
    assert dialect.finish(NODE, [end(good), end(bad)]) == {good.id, bad.id}


def test_the_view_shows_a_job_once_whatever_happens_to_it(dialect):
    (job,) = take_new(dialect)
    assert Job.objects.filter(pk=job.id).count() == 1
    dialect.put_back(NODE, [back(job, 60)])
    assert Job.objects.filter(pk=job.id).count() == 1
    assert Job.objects.get(pk=job.id).run_after > timezone.now()
    assert state(job) == "scheduled"
