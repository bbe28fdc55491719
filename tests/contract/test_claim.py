"""Claim: what is due, in order, each job once, and nothing else."""

import json
from datetime import timedelta

import pytest
from django.conf import settings
from django.utils import timezone

from tests.contract.rows import (
    DEFAULT,
    NODE,
    OTHER,
    back,
    hours,
    is_id,
    live,
    new,
    places,
    several,
    state,
    take,
    take_new,
)
from tests.waiting import eventually
from windlass.db import Lane, rare
from windlass.jobs import pauses
from windlass.models import LiveJob


def test_lanes_are_sorted_and_distinct_and_of_one_backend(dialect):
    for priority in (0, 5, -5, 0, 100, -100):
        dialect.insert(new(queue="b", priority=priority))
    dialect.insert(new(queue="a"))
    dialect.insert(new(queue="c", backend="other"))
    dialect.insert(new(queue="later", run_after=hours(1)))

    assert dialect.lanes("default") == [
        ("a", 0),
        *[("b", nice) for nice in (-100, -5, 0, 5, 100)],
        ("later", 0),
    ]
    assert dialect.lanes("other") == [("c", 0)]
    assert dialect.lanes("nobody") == []


def test_queues_differ_by_case_space_accent_and_emoji(dialect):
    names = ["mail", "Mail", "mail ", "máil", "mail🚀", "mail🔥", "mail%", "mail_"]
    for name in names:
        dialect.insert(new(name, queue=name))

    assert sorted(queue for queue, _nice in dialect.lanes("default")) == sorted(names)
    for name in names:
        assert places(take(dialect, 10, Lane(name, 0))) == [name]


def test_a_claim_leaves_a_paused_queue_alone(dialect):
    dialect.insert_many([new(1, queue="mail"), new(2, queue="Mail"), new(3, queue="b")])
    dialect.insert(new(4, queue="mail", backend="other"))
    pauses.pause(dialect, "default", "mail", "")
    lanes = [Lane(name, 0) for name in ("mail", "Mail", "b")]

    assert places(take(dialect, 10, *lanes)) == [2, 3]
    assert places(dialect.claim(NODE, "other", lanes, 10)) == [4]

    pauses.resume(dialect, "default", "mail")
    assert places(take(dialect, 10, *lanes)) == [1]


def test_a_claim_gives_back_the_whole_job(dialect):
    job = new(1, kwargs={"a": 2}, queue="mail", priority=5, max_attempts=4)
    enqueued_at = dialect.insert(job._replace(metadata='{"m": 1}', policy='{"p": 2}'))

    (claimed,) = take(dialect, 5, Lane("mail", -5))

    assert claimed.id == job.id
    assert is_id(claimed.id)
    assert (claimed.claim, claimed.attempts, claimed.max_attempts) == (1, 1, 4)
    assert (claimed.backend_alias, claimed.queue_name) == ("default", "mail")
    assert (claimed.nice, claimed.task_path) == (-5, "tests.tasks.add")
    assert json.loads(claimed.args) == [1]
    assert json.loads(claimed.kwargs) == {"a": 2}
    assert json.loads(claimed.metadata) == {"m": 1}
    assert json.loads(claimed.policy) == {"p": 2}
    assert (claimed.history, claimed.crashes) == (None, 0)
    assert claimed.enqueued_at == claimed.available_at == enqueued_at
    assert timezone.is_aware(claimed.enqueued_at) == settings.USE_TZ


def test_empty_arguments_are_written_as_the_engine_writes_them(dialect):
    (job,) = take_new(dialect)

    # The executor skips parsing when it sees this very text.
    assert job.kwargs == "{}"


def test_a_claimed_row_says_who_holds_it_and_since_when(dialect):
    (job,) = take_new(dialect)

    row = live(job)
    assert (row.node, row.claim, row.attempts) == (NODE, 1, 1)
    assert abs((timezone.now() - row.started_at).total_seconds()) < 5
    assert state(job) == "running"


def test_order_is_that_of_the_lanes_then_age(dialect):
    dialect.insert(new("b0", queue="b"))
    dialect.insert(new("a0", queue="a"))
    dialect.insert(new("a9", queue="a", priority=9))
    dialect.insert(new("b9", queue="b", priority=9))
    dialect.insert(new("a0 again", queue="a"))
    lanes = [Lane("b", -9), Lane("b", 0), Lane("a", 0), Lane("a", -9)]

    found = places(take(dialect, 10, *lanes))

    assert found == ["b9", "b0", "a0", "a0 again", "a9"]


def test_the_limit_holds_over_all_lanes(dialect):
    dialect.insert_many(several(5, queue="a") + several(5, queue="b"))
    lanes = [Lane("a", 0), Lane("b", 0)]

    first = take(dialect, 7, *lanes)
    second = take(dialect, 7, *lanes)

    assert [job.queue_name for job in first] == ["a"] * 5 + ["b"] * 2
    assert places(first) == [0, 1, 2, 3, 4, 0, 1]
    assert [(job.queue_name, *places([job])) for job in second] == [
        ("b", 2),
        ("b", 3),
        ("b", 4),
    ]


@pytest.mark.parametrize("size", [150, 450])
def test_a_bulk_is_served_first_in_first_out(dialect, size):
    dialect.insert_many(several(size))
    found = []

    while jobs := take(dialect, 100):
        found += places(jobs)

    assert found == list(range(size))


def test_single_enqueues_are_served_first_in_first_out(dialect):
    for place in range(20):
        dialect.insert(new(place))

    assert places(take(dialect, 20)) == list(range(20))


def test_no_lanes_or_no_room_claim_nothing(dialect):
    dialect.insert(new())

    assert dialect.claim(NODE, "default", [], 5) == []
    assert take(dialect, 0) == []
    assert take(dialect, 5, Lane("default", 1), Lane("elsewhere", 0)) == []


def test_a_floor_never_hides_what_lies_above_it(dialect, vendor, is_own):
    first = dialect.insert(new("below"))
    dialect.insert(new("above"))

    found = places(take(dialect, 5, Lane("default", 0, first)))

    if vendor == "postgresql" and is_own:
        assert found == ["above"]
    assert "above" in found
    assert places(take(dialect, 5, Lane("default", 0, None))) == (
        ["below"] if found == ["above"] else []
    )


def test_lanes_with_and_without_floors_mix(dialect):
    floor = dialect.insert(new("below"))
    dialect.insert(new("above"))
    dialect.insert(new("other", queue="other"))

    found = places(take(dialect, 5, Lane("other", 0), Lane("default", 0, floor)))

    assert found[0] == "other"
    assert found[-1] == "above"


def test_only_what_is_due_is_claimed(dialect):
    dialect.insert(new("now"))
    dialect.insert(new("later", run_after=hours(1)))
    dialect.insert(new("tomorrow", run_after=hours(24)))

    assert places(take(dialect, 5)) == ["now"]


def test_a_scheduled_job_becomes_ready_because_time_passes(dialect):
    job = new(run_after=timezone.now() + timedelta(seconds=0.4))
    dialect.insert(job)

    assert state(job) == "scheduled"
    assert take(dialect) == []
    assert eventually(lambda: state(job) == "ready")
    assert [found.id for found in eventually(lambda: take(dialect))] == [job.id]


def test_a_job_is_ready_the_moment_it_is_stored(dialect):
    for _try in range(30):
        dialect.insert(job := new())
        assert state(job) == "ready"


def test_only_the_own_backends_jobs_are_claimed(dialect):
    dialect.insert(new("mine"))
    dialect.insert(new("theirs", backend="other"))

    assert places(take(dialect, 5)) == ["mine"]
    assert places(dialect.claim(NODE, "other", [DEFAULT], 5)) == ["theirs"]


def test_a_held_job_is_never_claimed(dialect):
    (job,) = take_new(dialect)

    assert take(dialect, 5) == []
    assert take(dialect, 5, node=OTHER) == []
    assert live(job).node == NODE


def test_a_blocked_job_is_never_claimed(dialect):
    dialect.insert(job := new())
    rare.hold(dialect, [job.id], hold="limit")

    assert take(dialect, 5) == []
    assert state(job) == "blocked"


def test_held_rows_ahead_do_not_hide_ready_ones(dialect):
    dialect.insert_many(several(30))
    assert places(take(dialect, 20)) == list(range(20))

    assert places(take(dialect, 20, node=OTHER)) == list(range(20, 30))


def test_each_claim_counts(dialect):
    (first,) = take_new(dialect)
    dialect.put_back(NODE, [back(first, attempt_back=1)])
    (second,) = take(dialect, node=OTHER)
    dialect.put_back(OTHER, [back(second)])
    (third,) = take(dialect)

    assert [job.claim for job in (first, second, third)] == [1, 2, 3]
    assert [job.attempts for job in (first, second, third)] == [1, 1, 2]


def test_history_comes_with_the_claim(dialect):
    (first,) = take_new(dialect)
    history = [{"attempt": 1, "error": "é🚀\\n%s"}]
    dialect.put_back(NODE, [back(first, history=json.dumps(history))])

    (second,) = take(dialect)

    assert json.loads(second.history) == history


def test_many_lanes_are_served_in_one_claim(dialect):
    lanes = [Lane(f"queue {n:02}", 0) for n in range(40)]
    dialect.insert_many([new(lane.queue_name, queue=lane.queue_name) for lane in lanes])

    found = places(take(dialect, 100, *reversed(lanes)))

    assert found == [lane.queue_name for lane in reversed(lanes)]
    assert not LiveJob.objects.filter(node=None).exists()
