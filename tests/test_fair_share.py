"""Fair share: tenants take turns, whoever came first and however many wait."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.contract.rows import NODE
from tests.fair_tasks import export, maybe, plain
from tests.running import fresh, make_claimer, run_ready
from windlass import api
from windlass.db import dialect as make_dialect
from windlass.db.shares import shares
from windlass.exceptions import RefusedTask
from windlass.jobs import lifecycle
from windlass.jobs.lifecycle import Attempt
from windlass.models import LiveJob
from windlass.tasks_api import default_task_backend

FAR = datetime(9000, 1, 1, tzinfo=UTC)

transactional = pytest.mark.django_db(transaction=True)


@pytest.fixture
def db():
    return make_dialect("default")


@pytest.fixture
def claimer(db):
    return make_claimer(db, NODE)


def enqueue(task, tenant, count):
    default_task_backend.enqueue_all([(task, [tenant], {})] * count)


def tenants(jobs):
    return [json.loads(job.args)[0] for job in jobs]


@transactional
def test_a_tenant_with_many_jobs_does_not_delay_the_first_of_another(claimer):
    enqueue(export, "big", 300)
    enqueue(export, "small", 2)

    first = tenants(claimer.claim(4))

    assert Counter(first) == {"big": 2, "small": 2}
    # And whoever is alone gets all there is.
    assert tenants(claimer.claim(10)) == ["big"] * 10


@transactional
def test_with_room_for_one_tenants_are_served_in_turn(claimer):
    for tenant in "abc":
        enqueue(export, tenant, 3)

    served = [tenants(claimer.claim(1))[0] for _ in range(9)]

    assert [Counter(served[i : i + 3]) for i in (0, 3, 6)] == [Counter("abc")] * 3
    assert claimer.claim(1) == []


@transactional
def test_jobs_without_a_share_are_one_tenant_among_others(claimer):
    enqueue(plain, "none", 50)
    enqueue(export, "a", 50)

    assert Counter(tenants(claimer.claim(20))) == {"none": 10, "a": 10}


@transactional
def test_a_call_without_a_key_has_no_share(db):
    maybe.enqueue("nobody")
    maybe.enqueue("x")

    assert sorted(LiveJob.objects.values_list("share", flat=True)) == ["", "x"]
    assert shares(db, "default", ("default", 0), limit=5) == ["x"]


@transactional
def test_priority_and_order_of_queues_come_before_fairness(db):
    enqueue(export, "a", 5)
    enqueue(export.using(priority=5), "b", 5)
    enqueue(export.using(queue_name="mail"), "c", 5)
    claimer = make_claimer(db, NODE, queues=("mail", "*"))

    assert tenants(claimer.claim(12)) == ["c"] * 5 + ["b"] * 5 + ["a"] * 2


@transactional
def test_within_a_share_the_oldest_comes_first(claimer):
    for number in range(5):
        export.enqueue("a", number)

    assert [json.loads(job.args)[1] for job in claimer.claim(5)] == [0, 1, 2, 3, 4]


@transactional
def test_more_tenants_than_a_claim_looks_at_are_all_served(claimer):
    calls = [(export, [f"{number:03}"], {}) for number in range(200)]
    default_task_backend.enqueue_all(calls)

    served = [tenant for _ in range(5) for tenant in tenants(claimer.claim(40))]

    assert sorted(served) == [f"{number:03}" for number in range(200)]


@transactional
def test_one_claim_goes_through_windows_until_it_is_full(claimer, db):
    calls = [(export, [f"{number:03}"], {}) for number in range(200)]
    default_task_backend.enqueue_all(calls)
    # Most of them may not run yet.
    LiveJob.objects.exclude(share__endswith="7").update(available_at=FAR)

    assert len(claimer.claim(300)) == 20


@transactional
def test_a_worker_is_done_although_others_queues_have_shares(db):
    enqueue(export, "a", 3)
    enqueue(plain.using(queue_name="mail"), "b", 1)
    claimer = make_claimer(db, NODE, queues=("mail",))
    claimer.look_everywhere()

    assert tenants(claimer.claim(5)) == ["b"]
    assert claimer.turns.is_done
    assert claimer.looked_everywhere


@transactional
def test_with_room_for_one_the_only_tenant_who_is_ready_is_found_at_once(claimer, db):
    calls = [(export, [f"{number:03}"], {}) for number in range(300)]
    default_task_backend.enqueue_all(calls)
    LiveJob.objects.exclude(share="tenant:250").update(available_at=FAR)

    assert tenants(claimer.claim(1)) == ["250"]


@transactional
@pytest.mark.parametrize("count", [100, 1100])
def test_whoever_looks_everywhere_comes_to_an_end_however_many_may_not_run_yet(
    claimer, count
):
    later = export.using(run_after=timedelta(days=1))
    calls = [(later, [f"{number:04}"], {}) for number in range(count)]
    default_task_backend.enqueue_all(calls)
    claimer.claim(5)

    claimer.look_everywhere()

    assert claimer.claim(5) == []
    assert claimer.looked_everywhere


@transactional
def test_whoever_looks_everywhere_asks_every_lane_for_shares(db):
    for number in range(30):
        enqueue(export.using(queue_name=f"q{number:02}"), "a", 1)
    claimer = make_claimer(db, NODE)
    claimer.look_everywhere()

    assert len(claimer.claim(100)) == 30
    assert claimer.looked_everywhere


@transactional
def test_a_tenant_that_comes_later_is_noticed(claimer):
    enqueue(plain, "none", 3)
    claimer.claim(1)
    enqueue(export, "new", 1)
    claimer.look_everywhere()
    claimer.turns._looked_at = float("-inf")

    assert sorted(tenants(claimer.claim(10))) == ["new", "none", "none"]


@transactional
def test_a_retry_by_hand_keeps_its_share(db, claimer):
    result = export.enqueue("a")
    (job,) = claimer.claim(1)
    entry = {"cause": "error", "error": "E", "traceback": ""}
    move = lifecycle.fail(Attempt(job, NODE, 1.0, 2.0), entry, retry_in=None)
    lifecycle.record(db, NODE, [move])

    api.retry_failed_job(result.id)

    assert LiveJob.objects.get().share == "tenant:a"


@transactional
def test_scripts_take_turns_too():
    enqueue(export, "big", 5)
    enqueue(export, "small", 1)

    assert {fresh(result).args[0] for result in run_ready(2)} == {"big", "small"}
    assert len(run_ready(10)) == 4


@transactional
def test_latency_is_that_of_the_oldest_of_all_shares(db):
    export.enqueue("b")
    LiveJob.objects.update(available_at=db.moment(db.now().timestamp() - 60))
    export.enqueue("a")

    assert 59 < api.QueueInfo("default").latency < 120


@pytest.mark.django_db
@pytest.mark.parametrize("fair_by", ["", 5, ["x"]])
def test_what_is_no_key_is_refused(fair_by):
    from dataclasses import replace

    with pytest.raises(RefusedTask, match="fair_by must be a format string"):
        replace(export, fair_by=fair_by).enqueue("a")


@transactional
def test_a_key_that_cannot_be_made_is_refused():
    with pytest.raises(RefusedTask, match=r"key 'tenant:\{tenant\}' cannot be made"):
        export.enqueue(nobody=1)

    assert not LiveJob.objects.exists()


@transactional
@hypothesis_settings(max_examples=20, deadline=None)
@given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=8),
    limits=st.lists(st.integers(1, 9), min_size=1, max_size=4),
)
def test_whoever_waits_is_never_overtaken_by_more_than_a_round(counts, limits):
    LiveJob.objects.all().delete()
    db = make_dialect("default")
    claimer = make_claimer(db, NODE)
    for number, count in enumerate(counts):
        enqueue(export, str(number), count)
    left, turn = Counter({str(n): count for n, count in enumerate(counts)}), 0
    unserved = Counter()

    while left:
        limit = limits[turn % len(limits)]
        turn += 1
        got = Counter(tenants(claimer.claim(limit)))
        assert sum(got.values()) == min(limit, sum(left.values()))
        left -= got
        for tenant in left:
            unserved[tenant] = 0 if got[tenant] else unserved[tenant] + 1
            # In each round everybody has a turn, or shares a claim with others.
            assert unserved[tenant] <= len(counts)
