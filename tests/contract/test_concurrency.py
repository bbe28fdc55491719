"""Several connections at once: no job twice, no job lost, nobody waits long."""

import time
from collections import Counter

import pytest
from django.db import transaction

from tests.contract.rows import (
    NODE,
    OTHER,
    back,
    end,
    new,
    several,
    state,
    states,
    take,
    take_new,
)
from windlass.db import rare
from windlass.models import EndedJob

WAIT = 30  # seconds after which a test gives up on a thread
SOON = 3  # seconds that nobody may be kept waiting


def test_claims_at_the_same_time_share_the_jobs(dialect, others):
    dialect.insert_many(several(400))

    def drain(node):
        def claim(dialect):
            found = []
            while jobs := take(dialect, 7, node=node):
                found += jobs
            return found

        return claim

    both = [others(drain(NODE)), others(drain(OTHER)), others(drain(3))]
    ids = [job.id for one in both for job in one.result(WAIT)]

    # A row that someone else is looking at is skipped, so one pass may miss it.
    ids += [job.id for job in take(dialect, 400, node=4)]
    assert Counter(ids) == dict.fromkeys(set(ids), 1)
    assert len(ids) == 400


def test_claim_finish_and_enqueue_at_the_same_time_lose_nothing(
    dialect, others, vendor, is_own
):
    if vendor == "mysql" and not is_own:
        pytest.skip("only the own dialect repeats what InnoDB undid in a deadlock")

    def produce(dialect):
        for _each in range(10):
            dialect.insert_many(several(10))
            dialect.insert(new())

    def work(node):
        def drain(dialect):
            done = 0
            give_up_at = time.monotonic() + WAIT
            while EndedJob.objects.count() < 220 and time.monotonic() < give_up_at:
                jobs = take(dialect, 9, node=node)
                done += len(dialect.finish(node, [end(job) for job in jobs[1:]]))
                dialect.put_back(node, [back(job) for job in jobs[:1]])
                if len(jobs) == 1:
                    again = take(dialect, 1, node=node)
                    done += len(dialect.finish(node, [end(job) for job in again]))
            return done

        return drain

    producers = [others(produce), others(produce)]
    workers = [others(work(NODE)), others(work(OTHER))]
    for future in producers:
        future.result(WAIT)

    assert sum(future.result(2 * WAIT) for future in workers) == 220
    assert states() == {"succeeded": 220}


def test_an_open_claim_holds_nobody_up(dialect, others, gate, vendor, is_own):
    if vendor == "sqlite":
        pytest.skip("SQLite has one writer")
    if vendor == "mysql" and not is_own:
        pytest.skip("InnoDB locks all it sorts; only the own dialect names the index")
    dialect.insert_many(several(6))

    def claim_and_sit(dialect):
        with dialect.transaction():
            jobs = take(dialect, 3, node=OTHER)
            claimed.set()
            assert gate.wait(WAIT)
        return jobs

    claimed = type(gate)()
    sitting = others(claim_and_sit)
    assert claimed.wait(WAIT)
    began = time.monotonic()
    mine = take(dialect, 6)
    took = time.monotonic() - began
    gate.set()
    theirs = sitting.result(WAIT)

    assert took < SOON
    assert (len(mine), len(theirs)) == (3, 3)
    assert not {job.id for job in mine} & {job.id for job in theirs}


def test_an_open_enqueue_holds_nobody_up(dialect, others, gate, vendor):
    if vendor == "sqlite":
        pytest.skip("SQLite has one writer")
    dialect.insert_many(several(3))

    def enqueue_and_sit(dialect):
        with transaction.atomic():
            dialect.insert(new("open"))
            dialect.insert_many(several(3))
            stored.set()
            assert gate.wait(WAIT)

    stored = type(gate)()
    sitting = others(enqueue_and_sit)
    assert stored.wait(WAIT)
    began = time.monotonic()
    first = take(dialect, 10)
    dialect.insert(new("mine"))
    dialect.finish(NODE, [end(first[0])])
    dialect.put_back(NODE, [back(first[1])])
    assert len(take(dialect, 10)) == 2
    assert rare.holders(dialect) == {NODE}
    took = time.monotonic() - began
    gate.set()
    sitting.result(WAIT)

    assert took < SOON
    assert states() == {"succeeded": 1, "running": 3, "ready": 4}


@pytest.mark.parametrize("attempt", range(5))
def test_of_two_reports_of_one_claim_one_wins(dialect, others, attempt):
    (job,) = take_new(dialect)

    good = others(lambda dialect: dialect.finish(NODE, [end(job)]))
    bad = others(lambda dialect: dialect.finish(NODE, [end(job, "failed", "lost")]))
    again = others(lambda dialect: dialect.put_back(NODE, [back(job)]))
    moved = [future.result(WAIT) for future in (good, bad, again)]

    assert sorted(map(len, moved)) == [0, 0, 1]
    assert state(job) == ["succeeded", "failed", "ready"][moved.index({job.id})]


@pytest.mark.parametrize("attempt", range(5))
def test_of_a_claim_and_a_cancel_one_wins(dialect, others, attempt):
    dialect.insert_many(jobs := several(20))
    ids = [job.id for job in jobs]
    ending = {"state": "cancelled", "reason": "cancelled"}

    claims = others(lambda dialect: {job.id for job in take(dialect, 20)})
    cancels = others(lambda dialect: rare.end_waiting(dialect, ids, **ending))
    claimed, cancelled = claims.result(WAIT), cancels.result(WAIT)

    claimed |= {job.id for job in take(dialect, 20)}
    assert claimed | cancelled == set(ids)
    assert not claimed & cancelled


@pytest.mark.parametrize("attempt", range(3))
def test_a_job_is_revived_once(dialect, others, attempt):
    jobs = take_new(dialect, 20)
    dialect.finish(NODE, [end(job, "failed") for job in jobs])
    ids = [job.id for job in jobs]

    both = [
        others(lambda dialect: rare.revive(dialect, ids, states=["failed"]))
        for _each in range(2)
    ]

    assert sum(len(future.result(WAIT)) for future in both) == 20
    assert states() == {"ready": 20}
