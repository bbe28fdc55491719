"""In which order a worker looks at queues, and in which order jobs run."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from tests import tasks
from tests.running import run_ready
from windlass import api, db
from windlass.db import Lane
from windlass.jobs.queues import FLOOR_LAG, FULL_CLAIM_EVERY, Lanes, in_order, matches
from windlass.models import LiveJob
from windlass.tasks_api import default_task_backend

NAMES = st.sampled_from(["mail", "mail_fast", "mails", "maps", "m", "default", "é"])
SELECTORS = st.lists(
    NAMES | NAMES.map(lambda name: name + "*") | st.just("*"),
    min_size=1,
    max_size=4,
    unique=True,
)
LANES = st.sets(st.tuples(NAMES, st.integers(-100, 100)), max_size=12)
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


# Selectors


@pytest.mark.parametrize(
    ("selector", "queue", "covered"),
    [
        *[("mail", "mail", True), ("mail", "mails", False), ("mail", "mai", False)],
        *[("mail*", "mail", True), ("mail*", "mails", True), ("mail*", "m", False)],
        *[("*", "anything", True), ("*", "", True), ("mail", "Mail", False)],
    ],
)
def test_a_selector_is_a_name_a_prefix_or_everything(selector, queue, covered):
    assert matches(selector, queue) is covered


def test_the_order_of_selectors_wins_over_priority():
    lanes = [("slow", -100), ("mail", 50), ("mail", 0), ("mails", -5), ("other", -9)]

    assert in_order(["mail", "m*", "slow"], lanes) == [
        ("mail", 0),
        ("mail", 50),
        ("mails", -5),
        ("slow", -100),
    ]


@given(selectors=SELECTORS, lanes=LANES)
def test_each_covered_lane_is_served_once_and_no_other(selectors, lanes):
    order = in_order(selectors, lanes)

    assert len(order) == len(set(order))
    assert set(order) == {
        lane for lane in lanes if any(matches(s, lane[0]) for s in selectors)
    }


@given(selectors=SELECTORS, lanes=LANES)
def test_the_first_selector_that_covers_a_lane_ranks_it_then_its_priority(
    selectors, lanes
):
    def rank(lane):
        first = next(n for n, s in enumerate(selectors) if matches(s, lane[0]))
        return first, lane[1], lane[0]

    order = in_order(selectors, lanes)

    assert order == sorted(order, key=rank)


@given(selectors=SELECTORS, lanes=LANES)
def test_the_order_does_not_depend_on_how_the_lanes_are_found(selectors, lanes):
    assert in_order(selectors, lanes) == in_order(selectors, sorted(lanes)[::-1])


# What a worker remembers


def claimed(queue, nice, moment):
    values = dict.fromkeys(db.Claimed._fields)
    values |= {"queue_name": queue, "nice": nice, "available_at": moment}
    return db.Claimed(**values)


def test_a_lane_that_was_seen_is_kept_until_it_is_forgotten():
    lanes = Lanes(["*"])

    assert lanes.refresh([("a", 0)])
    assert lanes.refresh([("b", 0)])
    assert not lanes.refresh([("a", 0)])
    assert lanes.for_claim(now=0.0) == ([Lane("a", 0), Lane("b", 0)], True)
    lanes.keep_only([("b", 0)])
    assert lanes.for_claim(now=0.0) == ([Lane("b", 0)], True)


def test_a_floor_is_what_was_newest_a_while_ago():
    lanes = Lanes(["*"])
    lanes.refresh([("a", 0)])
    lanes.full_claim_took(0.001, now=0.0)
    lanes.learn([claimed("a", 0, NOON)], now=0.0)
    lanes.learn([claimed("a", 0, NOON + timedelta(hours=1))], now=FLOOR_LAG / 2)

    before, full = lanes.for_claim(now=FLOOR_LAG / 2)
    assert (before, full) == ([Lane("a", 0, None)], False)
    after, full = lanes.for_claim(now=FLOOR_LAG)
    assert (after, full) == ([Lane("a", 0, NOON)], False)


def test_a_full_claim_comes_again_and_when_asked_for():
    lanes = Lanes(["*"])
    lanes.full_claim_took(0.001, now=100.0)

    assert not lanes.for_claim(now=100.0 + FULL_CLAIM_EVERY / 2)[1]
    assert lanes.for_claim(now=100.0 + FULL_CLAIM_EVERY)[1]
    lanes.full_claim_took(10.0, now=200.0)
    assert not lanes.for_claim(now=200.0 + 10 * FULL_CLAIM_EVERY)[1]
    lanes.forget_floors()
    assert lanes.for_claim(now=200.0)[1]


def test_queues_of_equal_rank_take_turns_at_being_first():
    lanes = Lanes(["first", "*"])
    lanes.refresh([("first", 0), ("a", 0), ("b", 0), ("b", -5)])

    orders = [
        [lane.queue_name for lane in lanes.for_claim(now=0.0)[0]] for _ in range(3)
    ]

    assert orders == [
        ["first", "b", "a", "b"],
        ["first", "b", "b", "a"],
        ["first", "b", "a", "b"],
    ]


# The order in which jobs run


@pytest.mark.django_db
def test_priority_first_then_run_after_then_age():
    base = tasks.noop
    long_ago = base.using(run_after=timedelta(days=-2))
    calls = {
        "low": base.using(priority=-100),
        "first": base,
        "second": base,
        "urgent": base.using(priority=100),
        "third": long_ago,
    }
    for name, task in calls.items():
        task.enqueue(name)
    # A time that has passed does not jump the queue; one that came due before does.
    early = base.enqueue("was due")
    row = LiveJob.objects.get(pk=early.id)
    LiveJob.objects.filter(pk=row.pk).update(
        available_at=row.enqueued_at - timedelta(days=1)
    )

    order = [result.args[0] for result in run_ready()]

    assert order == ["urgent", "was due", "first", "second", "third", "low"]


@pytest.mark.django_db
def test_jobs_of_one_bulk_run_in_the_order_of_the_calls():
    default_task_backend.enqueue_all([(tasks.noop, (n,), {}) for n in range(300)])

    order = [result.args[0] for result in run_ready(300)]

    assert order == list(range(300))


@pytest.mark.django_db
def test_only_the_queues_asked_for_are_claimed_in_their_order():
    for queue in ("default", "mail", "mail_fast", "other"):
        for priority in (0, 10):
            tasks.noop.using(queue_name=queue, priority=priority).enqueue()

    claimed = api.claim_ready_jobs(100, ["other", "mail*"])

    found = [(job.job.queue_name, -job.job.nice) for job in claimed]
    assert found == [
        *[("other", 10), ("other", 0)],
        *[("mail", 10), ("mail_fast", 10), ("mail", 0), ("mail_fast", 0)],
    ]


@pytest.mark.django_db
def test_names_that_differ_in_anything_are_different_queues():
    names = ["mail", "Mail", "MAIL", "máil", "mail_", "mai"]
    for name in names:
        tasks.noop.using(queue_name=name).enqueue(name)

    for name in names:
        (claimed,) = api.claim_ready_jobs(10, name)
        assert api.execute_claimed_job(claimed).args == [name]


# Plans


def statements_of(function):
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as captured:
        function()
    return [query["sql"] for query in captured.captured_queries]


@pytest.mark.django_db(transaction=True)
def test_picking_the_next_job_reads_an_index_beside_thousands_of_rows():
    later = tasks.noop.using(run_after=timedelta(days=1))
    default_task_backend.enqueue_all([(later, (), {})] * 5000)
    default_task_backend.enqueue_all([(tasks.noop, (), {})] * 5)
    with connection.cursor() as cursor:
        analyze = {"mysql": "ANALYZE TABLE windlass_live"}.get(
            connection.vendor, "ANALYZE windlass_live"
        )
        cursor.execute(analyze)
        picked = "available_at <= %s AND node IS NULL ORDER BY available_at LIMIT 1"
        explain = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
        cursor.execute(
            f"{explain} SELECT id FROM windlass_live WHERE backend_alias = 'default'"
            f" AND queue_name = 'default' AND nice = 0 AND share = '' AND {picked}",
            [NOON.replace(tzinfo=None)],
        )
        plan = str(cursor.fetchall())

    assert "windlass_live_claim" in plan
    assert len(api.claim_ready_jobs(10)) == 5
