"""Back to waiting: retries, snoozes, releases and rescues are rows that moved."""

import json
import time

import pytest
from django.conf import settings

from tests.contract.rows import (
    NODE,
    OTHER,
    back,
    end,
    ended,
    is_null,
    live,
    new,
    places,
    state,
    states,
    take,
    take_new,
)
from windlass.models import LiveJob


@pytest.mark.parametrize("delay", [0.25, 60.0, 3600.5, 10.0**9])
def test_a_delay_counts_from_now(dialect, vendor, delay):
    if delay > 3601 and vendor == "mysql" and not settings.USE_TZ:
        pytest.skip("MySQL without time zones adds to the clock on the wall")
    (job,) = take_new(dialect)

    assert dialect.put_back(NODE, [back(job, delay)]) == {job.id}

    due = dialect.moment(time.time() + delay)
    assert abs((live(job).available_at - due).total_seconds()) < 5
    assert delay < 1 or state(job) == "scheduled"


def test_without_delay_the_job_is_ready_at_once(dialect):
    (job,) = take_new(dialect)

    dialect.put_back(NODE, [back(job)])

    assert state(job) == "ready"
    assert [found.id for found in take(dialect)] == [job.id]


def test_a_returned_row_is_held_by_nobody(dialect):
    (job,) = take_new(dialect)

    dialect.put_back(NODE, [back(job)])

    row = live(job)
    assert (row.node, row.started_at, row.hold) == (None, None, "")
    assert (row.claim, row.attempts, row.crashes) == (1, 1, 0)
    assert is_null(LiveJob, "history", job)


def test_it_stands_behind_the_rows_that_waited(dialect):
    # A fresh time, too, because a claim floor would hide an old one.
    (job,) = take_new(dialect)
    dialect.insert(new("waited"))

    dialect.put_back(NODE, [back(job)])

    assert live(job).available_at > job.available_at
    assert places(take(dialect, 2)) == ["waited", 0]


def test_an_attempt_can_be_given_back_and_a_crash_counted(dialect):
    first, second = take_new(dialect, 2)

    dialect.put_back(NODE, [back(first, attempt_back=1), back(second, crashed=1)])

    assert (live(first).attempts, live(first).crashes) == (0, 0)
    assert (live(second).attempts, live(second).crashes) == (1, 1)


def test_history_is_replaced_when_given_and_kept_when_not(dialect):
    history = [{"attempt": 1, "traceback": "é\\\n\t'%s' 🚀"}]
    (job,) = take_new(dialect)
    dialect.put_back(NODE, [back(job, history=json.dumps(history))])
    assert live(job).history == history

    (job,) = take(dialect)
    dialect.put_back(NODE, [back(job)])

    assert live(job).history == history


@pytest.mark.parametrize(
    ("node", "claim"), [(OTHER, 1), (NODE, 0), (NODE, 2), (OTHER, 2)]
)
def test_a_stale_claim_is_refused(dialect, node, claim):
    (job,) = take_new(dialect)

    assert dialect.put_back(node, [back(job)._replace(claim=claim)]) == set()

    assert (live(job).node, live(job).claim) == (NODE, 1)


def test_what_ended_or_never_was_is_refused(dialect):
    (job,) = take_new(dialect)
    dialect.finish(NODE, [end(job)])

    assert dialect.put_back(NODE, [back(job)]) == set()
    assert dialect.put_back(NODE, [back(job)._replace(id=new().id)]) == set()
    assert dialect.put_back(NODE, []) == set()

    assert live(job) is None
    assert ended(job).state == "succeeded"


def test_telling_it_twice_changes_nothing_more(dialect):
    (job,) = take_new(dialect)
    dialect.put_back(NODE, [back(job, 60, attempt_back=1)])
    due = live(job).available_at

    assert dialect.put_back(NODE, [back(job, 60, attempt_back=1)]) == set()

    assert (live(job).available_at, live(job).attempts) == (due, 0)


def test_a_batch_of_500_moves_what_holds_and_refuses_the_rest(dialect):
    jobs = take_new(dialect, 500)
    finished = jobs[::5]
    dialect.finish(NODE, [end(job) for job in finished])

    moved = dialect.put_back(
        NODE,
        [
            back(
                job,
                3600.0 * (place % 2),
                attempt_back=place % 2,
                crashed=1 - place % 2,
                history=json.dumps([place]),
            )
            for place, job in enumerate(jobs)
        ],
    )

    assert moved == {job.id for job in jobs} - {job.id for job in finished}
    assert states() == {"succeeded": 100, "ready": 200, "scheduled": 200}
    for row in LiveJob.objects.all():
        (place,) = row.history
        assert jobs[place].id == str(row.id)
        assert (row.attempts, row.crashes) == (1 - place % 2, 1 - place % 2)
