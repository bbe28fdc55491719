"""Rate limits: how many of a key may start in any span of time."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from django.db import OperationalError, connections
from hypothesis import given
from hypothesis import strategies as st

from tests.contract.rows import NODE, take
from tests.rated_tasks import both, charge, maybe, remind
from tests.running import fresh, make_claimer
from tests.tasks import add
from windlass import api, rate_limit
from windlass.db import Lane
from windlass.db import dialect as make_dialect
from windlass.exceptions import ConfigurationError, RefusedTask
from windlass.jobs import rates
from windlass.jobs.keys import RATES, Rate
from windlass.models import Job, LiveJob, RateWindow
from windlass.tasks_api import default_task_backend

transactional = pytest.mark.django_db(transaction=True)


@pytest.fixture
def db():
    return make_dialect("default")


@pytest.fixture
def claimer(db):
    return make_claimer(db, NODE)


def args_of(jobs):
    return [json.loads(job.args)[0] for job in jobs]


# The decorator


@pytest.mark.parametrize(
    ("said", "limit", "period"),
    [
        ("100/m", 100, 60.0),
        ("5/s", 5, 1.0),
        ("10/30s", 10, 30.0),
        ("1000/2h", 1000, 7200.0),
        ("1/d", 1, 86_400.0),
        ("6000/m", 1000, 10.0),
    ],
)
def test_a_rate_is_starts_in_a_span(said, limit, period):
    def function():
        pass

    rate_limit(key="k", rate=said)(function)

    assert getattr(function, RATES) == (Rate("k", limit, period),)


@pytest.mark.parametrize(
    "rate", ["", "100", "0/s", "1/0s", "1/x", "-1/s", "1/2d", "1.5/s", 5, None, "1/s "]
)
def test_what_is_no_rate_is_refused(rate):
    with pytest.raises(ConfigurationError, match="@rate_limit: rate must be"):
        rate_limit(key="k", rate=rate)


def test_a_key_of_another_kind_is_refused():
    with pytest.raises(ConfigurationError, match="@rate_limit: key must be"):
        rate_limit(key=None, rate="1/s")


# The rule, without a database


@given(
    limit=st.integers(1, 5),
    period=st.floats(0.5, 60),
    gaps=st.lists(st.floats(0, 20), max_size=60),
)
def test_no_span_ever_has_more_starts_than_the_limit(limit, period, gaps):
    rate, now, started = Rate("k", limit, period), 1000.0, []
    window = rates.Window(RateWindow(starts=[]))
    for gap in gaps:
        now += gap
        if not window.wait(rate, now):
            window.take(now)
            started.append(now)

    for start in started:
        assert sum(start <= other < start + period for other in started) <= limit


@given(limit=st.integers(1, 5), waiting=st.integers(1, 30))
def test_those_that_wait_are_told_turns_that_will_be_theirs(limit, waiting):
    rate, now = Rate("k", limit, 10.0), 1000.0
    window = rates.Window(RateWindow(starts=[]))
    turns = []
    for _ in range(limit + waiting):
        wait = window.wait(rate, now)
        if wait:
            window.queued += 1
        else:
            window.take(now)
        turns.append(now + wait)

    again = rates.Window(RateWindow(starts=[]))
    for turn in turns:
        assert not again.wait(rate, turn)
        again.take(turn)


# With a database


@transactional
def test_so_many_start_and_the_others_get_their_turn(claimer, db):
    results = [charge.enqueue(number) for number in range(5)]

    assert args_of(claimer.claim(10)) == [0, 1]

    waiting = [Job.objects.get(pk=result.id) for result in results[2:]]
    assert {(job.state, job.attempts) for job in waiting} == {("scheduled", 0)}
    turns = [(job.run_after - db.now()).total_seconds() for job in waiting]
    assert [round(turn / 10) for turn in turns] == [1, 1, 2]
    assert not claimer.claim(10)


@transactional
def test_a_turn_that_has_come_is_asked_for_again(claimer, db):
    for number in range(4):
        charge.enqueue(number)
    claimer.claim(10)
    # Somebody made them ready before their turn.
    LiveJob.objects.filter(node=None).update(available_at=db.now())
    claimer.look_everywhere()

    assert not claimer.claim(10)

    window = RateWindow.objects.get()
    window.starts = [start - 10 for start in window.starts]
    window.save()
    LiveJob.objects.filter(node=None).update(available_at=db.now())
    claimer.look_everywhere()
    assert args_of(claimer.claim(10)) == [2, 3]


@transactional
def test_keys_are_counted_one_by_one(claimer):
    for user in (1, 1, 2):
        remind.enqueue(user)

    assert args_of(claimer.claim(10)) == [1, 2]


@transactional
def test_a_job_that_one_limit_holds_back_takes_nothing_of_another(claimer):
    for kind in ("a", "a", "b", "c", "d"):
        both.enqueue(kind)

    assert args_of(claimer.claim(10)) == ["a", "b", "c"]

    starts = {row.key: len(row.starts) for row in RateWindow.objects.all()}
    assert starts == {"all": 3, "kind:a": 1, "kind:b": 1, "kind:c": 1, "kind:d": 0}


@transactional
def test_a_call_without_a_key_and_a_task_without_a_limit_are_not_held_back(claimer):
    calls = [(maybe, [True], {}), (maybe, [False], {}), (maybe, [False], {})]
    default_task_backend.enqueue_all([*calls, (add, [9, 1], {})])
    maybe.enqueue(True)

    assert args_of(claimer.claim(10)) == [True, False, 9, True]


@transactional
def test_a_changed_rate_holds_from_the_next_claim_on(claimer, monkeypatch):
    for number in range(6):
        charge.enqueue(number)
    monkeypatch.setattr(charge.func, RATES, (Rate("stripe", 5, 10.0),))

    assert args_of(claimer.claim(10)) == [0, 1, 2, 3, 4]


@transactional
def test_a_key_that_cannot_be_made_is_refused():
    with pytest.raises(RefusedTask, match=r"its key 'user:\{user_id\}' cannot be made"):
        remind.enqueue(nobody=1)

    assert not LiveJob.objects.exists()


@transactional
def test_scripts_keep_to_the_limit_too():
    for number in range(4):
        charge.enqueue(number)

    assert len(api.claim_ready_jobs(10)) == 2
    assert api.QueueInfo("default").drain() == 0


@transactional
def test_nodes_that_claim_at_once_keep_to_the_limit_together(db):
    for number in range(40):
        charge.enqueue(number)
    barrier = Barrier(4)

    def claim(node):
        own = make_dialect("default")
        try:
            barrier.wait()
            claimer = make_claimer(own, node)
            return [job.id for _ in range(4) for job in claimer.claim(10)]
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as threads:
        started = [id for ids in threads.map(claim, range(101, 105)) for id in ids]

    assert len(started) == 2
    assert LiveJob.objects.running().count() == 2


@transactional
def test_who_loses_a_deadlock_tries_again_and_loses_no_job(claimer, monkeypatch):
    for number in range(4):
        charge.enqueue(number)
    put_off, lost = rates._put_off, []

    def lose_once(db, *rest):
        with db.transaction():
            found = put_off(db, *rest)
            if not lost:
                lost.append(found)
                raise OperationalError("Deadlock found when trying to get lock")
            return found

    monkeypatch.setattr(rates, "_put_off", lose_once)
    monkeypatch.setattr(type(claimer.db), "is_conflict", lambda self, error: True)

    assert args_of(claimer.claim(10)) == [0, 1]

    assert len(lost) == 1
    assert LiveJob.objects.running().count() == 2


@transactional
def test_jobs_without_a_limit_take_no_further_statement(
    claimer, db, django_assert_num_queries
):
    add.enqueue(1, 1)

    assert not rates.are_limited(take(db, 1, Lane("default", 0)))
    assert not RateWindow.objects.exists()


@transactional
def test_keys_that_nobody_uses_are_forgotten(claimer, db):
    charge.enqueue(1)
    claimer.claim(1)
    assert rates.forget_idle(db, "default", limit=10) == 0

    RateWindow.objects.update(updated_at=db.now() - timedelta(days=3))

    assert rates.forget_idle(db, "default", limit=10) == 1


@transactional
def test_the_key_is_seen_on_the_job():
    result = remind.enqueue(4)

    assert fresh(result).policy == {"rates": ["user:4"]}
