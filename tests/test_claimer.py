"""How much a worker claims: enough to be busy, no more than a moment's work."""

from types import SimpleNamespace

import pytest

from tests.running import make_claimer
from windlass.runtime import claimer as claimer_module
from windlass.runtime.claimer import AHEAD, BATCH, BOUND


class NoDatabase:
    """Nothing here may ask the database."""


@pytest.fixture
def make():
    def make(**options):
        return make_claimer(NoDatabase(), 1, **options)

    return make


def hand_out(claimer, sync=0, asyncs=0):
    claimer.divide([None] * sync, [None] * asyncs)


def test_the_first_claim_is_small_because_nothing_is_known(make):
    claimer = make(threads=3)
    assert claimer.room() == 6
    hand_out(claimer, 6)
    assert claimer.in_hand == 6
    assert claimer.room() == 0


def test_short_jobs_are_claimed_by_the_hundred(make):
    claimer = make(threads=3)
    claimer.took(0.001, 100)
    assert claimer.room() == BATCH
    hand_out(claimer, BATCH)
    assert claimer.room() <= BOUND - BATCH


def test_long_jobs_are_claimed_as_they_can_start(make):
    claimer = make(threads=3)
    claimer.took(10 * AHEAD, 1)
    assert claimer.room() == 3
    hand_out(claimer, 3)
    assert claimer.room() == 0
    claimer.settled_sync += 1
    assert claimer.room() == 1


def test_one_slow_job_among_many_does_not_end_the_batches(make):
    claimer = make(threads=3)
    claimer.took(0.001, 100)
    before = claimer.seconds_per_job
    claimer.took(0.05, 1)
    assert before < claimer.seconds_per_job < 0.05


def test_behind_slow_jobs_only_free_threads_count(make):
    claimer = make(threads=3)
    claimer.took(0.001, 100)
    hand_out(claimer, 3)
    assert claimer.room(ahead=False) == 0
    claimer.settled_sync += 2
    assert claimer.room(ahead=False) == 2


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 0.001, 0.05, 5.0])
@pytest.mark.parametrize("threads", [1, 3, 50])
def test_it_never_holds_more_than_the_bound(make, seconds, threads):
    claimer = make(threads=threads)
    claimer.took(seconds, 1)
    for _ in range(20):
        room = claimer.room()
        assert 0 <= room <= BATCH
        hand_out(claimer, room)
    assert claimer.in_hand <= max(BOUND, threads)


def test_coroutines_are_claimed_up_to_what_the_loop_takes(make):
    claimer = make(threads=1, async_concurrency=100)
    hand_out(claimer, asyncs=2)
    assert claimer.expect_async
    assert claimer.room() == 98
    hand_out(claimer, asyncs=98)
    # Beside a full loop the threads still have work to fetch.
    assert claimer.room() <= 2
    hand_out(claimer, sync=1)
    assert not claimer.expect_async


def test_between_two_jobs_there_is_a_pause_if_there_is_to_be_one(make, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(
        claimer_module, "time", SimpleNamespace(monotonic=lambda: clock[0])
    )
    claimer = make(threads=3, job_pause=2)
    claimer.took(0.001, 100)
    assert claimer.room() == 1

    hand_out(claimer, 1)
    clock[0] += 60
    assert claimer.room() == 0
    clock[0] += 0.1
    claimer.settled_sync += 1

    assert claimer.room() == 0
    clock[0] += 1.9
    assert claimer.room() == 0
    clock[0] += 0.1
    assert claimer.room() == 1


def test_a_coroutine_is_a_job_as_well_for_the_pause(make):
    claimer = make(threads=3, job_pause=60)
    hand_out(claimer, asyncs=1)
    assert claimer.room() == 0
    claimer.settled_async += 1
    assert claimer.room() == 0
