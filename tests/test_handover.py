"""Jobs that were handed a slot, on their way to the threads."""

from types import SimpleNamespace

import pytest

from tests.contract.rows import new
from windlass.db import Claimed
from windlass.runtime.handover import CHAIN, Handover


def job(number, queue="default"):
    made = new(number, queue=queue)
    nothing = dict.fromkeys(Claimed._fields)
    return Claimed(**{**nothing, "id": made.id, "claim": 1, "queue_name": queue})


@pytest.fixture
def worker():
    started = []
    return SimpleNamespace(
        stopping=None,
        budget=None,
        holds=set(),
        worker=SimpleNamespace(queues=("default", "mail*"), max_jobs=None, job_pause=0),
        claimer=SimpleNamespace(seconds_per_job=None),
        attention=SimpleNamespace(set=lambda: None),
        threads=SimpleNamespace(jobs=SimpleNamespace(put=started.append)),
        started=started,
    )


@pytest.fixture
def handover(worker):
    return Handover(worker)


def test_one_follows_the_other_when_that_has_ended(handover, worker):
    chain = [job(number) for number in range(3)]
    handover.put([chain])

    assert handover.take() == chain[:1]
    assert len(handover) == 2
    handover.follow(chain[0])
    assert worker.started == chain[1:2]
    handover.follow(chain[1])
    assert worker.started == chain[1:]
    handover.follow(chain[2])
    assert (len(handover), handover.followed) == (0, 2)
    assert worker.holds == {(each.id, 1) for each in chain}


def test_who_stops_waiting_names_the_one_that_runs_and_nothing_follows_it(
    handover, worker
):
    chain = [job(number) for number in range(4)]
    handover.put([chain])
    handover.take()
    handover.follow(chain[0])

    (behind,) = handover.stop_waiting(since=float("inf"))

    assert behind.ahead is chain[1]
    assert list(behind.jobs) == chain[2:]
    handover.follow(chain[1])
    assert worker.started == chain[1:2]
    assert len(handover) == 0


def test_who_has_just_begun_is_waited_for(handover):
    handover.put([[job(1), job(2)]])

    assert handover.stop_waiting(since=float("-inf")) == []
    assert len(handover) == 2


@pytest.mark.parametrize(
    ("change", "takes"),
    [
        ({}, True),
        ({"stopping": "told"}, False),
        # A worker that counts its jobs would run more than it may.
        ({"budget": object()}, False),
        (
            {"worker": SimpleNamespace(queues=("default",), max_jobs=5, job_pause=0)},
            False,
        ),
        (
            {"worker": SimpleNamespace(queues=("other",), max_jobs=None, job_pause=0)},
            False,
        ),
    ],
)
def test_a_worker_takes_what_it_serves_while_it_may_work(
    handover, worker, change, takes
):
    vars(worker).update(change)

    assert handover.takes(job(1)) is takes


@pytest.mark.parametrize(
    ("seconds", "places", "length"),
    [
        (None, 1, 1),
        (1.0, 1, 1),
        (0.01, 1, 5),
        (0.00001, 1, CHAIN),
        # All of them together are no more than a claim would be.
        (0.00001, 100, 3),
        (0.00001, 1000, 1),
    ],
)
def test_a_chain_is_a_moments_work(handover, worker, seconds, places, length):
    worker.claimer.seconds_per_job = seconds

    assert handover.length(places) == length
