"""Enqueue: what is stored is what was given, all or none, in order."""

import json
from itertools import pairwise

import pytest
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from tests.contract.rows import (
    UNUSUAL,
    ended,
    hours,
    is_null,
    live,
    moment,
    new,
    places,
    several,
    state,
    take,
)
from windlass.db import Lane
from windlass.models import Job, LiveJob

# Through one INSERT, through the bulk INSERT, through COPY where there is one.
SIZES = [1, 3, 250]


def store(dialect, jobs):
    """Store one job as one, and more in bulk."""
    if len(jobs) == 1:
        return [dialect.insert(jobs[0])]
    return dialect.insert_many(jobs)


@pytest.mark.parametrize("size", SIZES)
def test_every_column_is_stored_as_given(dialect, size):
    jobs = [
        new(
            *(place, {"nested": [1.5, None, True]}),
            kwargs={"name": "x"},
            queue="mail",
            priority=-100,
            path="shop.tasks.send",
            max_attempts=7,
            backend="other",
            metadata={"trace": "abc"},
            policy={"on_lost": "fail"},
        )
        for place in range(size)
    ]
    times = store(dialect, jobs)

    for place, (job, time) in enumerate(zip(jobs, times, strict=True)):
        row = live(job)
        assert row.args == [place, {"nested": [1.5, None, True]}]
        assert row.kwargs == {"name": "x"}
        assert (row.queue_name, row.nice) == ("mail", 100)
        assert row.task_path == "shop.tasks.send"
        assert (row.attempts, row.max_attempts, row.claim) == (0, 7, 0)
        assert row.backend_alias == "other"
        assert row.metadata == {"trace": "abc"}
        assert row.policy == {"on_lost": "fail"}
        assert (row.node, row.started_at, row.history) == (None, None, None)
        assert row.hold == ""
        assert row.enqueued_at == row.available_at == time


@pytest.mark.parametrize("size", SIZES)
def test_what_was_not_given_is_null(dialect, size):
    jobs = several(size)
    store(dialect, jobs)

    for column in ("metadata", "policy", "history", "progress"):
        assert is_null(LiveJob, column, jobs[-1])


@pytest.mark.parametrize("size", [1, 2, 199, 200, 1201])
def test_times_rise_strictly_in_the_order_given(dialect, size):
    before = timezone.now()
    jobs = several(size)
    times = store(dialect, jobs)

    assert all(a < b for a, b in pairwise(times))
    assert abs((times[0] - before).total_seconds()) < 5
    assert timezone.is_aware(times[0]) == settings.USE_TZ
    rows = LiveJob.objects.order_by("available_at")
    assert [str(id) for id in rows.values_list("id", flat=True)] == [
        job.id for job in jobs
    ]
    assert list(rows.values_list("enqueued_at", flat=True)) == times


def test_nothing_to_store_stores_nothing(dialect):
    assert dialect.insert_many([]) == []
    assert not LiveJob.objects.exists()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("text", UNUSUAL)
def test_unusual_text_comes_back_as_it_was(dialect, size, text):
    jobs = [
        new(
            *(text, {text: [text]}),
            kwargs={text: text},
            queue=text,
            path=f"module.{text}",
            metadata={text: text},
            policy={text: text},
        )
        for _place in range(size)
    ]
    store(dialect, jobs)

    assert dialect.lanes("default") == [(text, 0)]
    claimed = take(dialect, size, Lane(text, 0))
    assert len(claimed) == size
    for job in (claimed[0], claimed[-1]):
        assert job.queue_name == text
        assert job.task_path == f"module.{text}"
        assert json.loads(job.args) == [text, {text: [text]}]
        assert json.loads(job.kwargs) == {text: text}
        assert json.loads(job.metadata) == {text: text}
        assert json.loads(job.policy) == {text: text}
        row = Job.objects.get(pk=job.id)
        assert (row.queue_name, row.args[0], row.metadata[text]) == (text, text, text)


@pytest.mark.parametrize("size", SIZES)
def test_an_unusual_backend_alias_comes_back_as_it_was(dialect, size):
    store(dialect, several(size, backend='a"b\\c 🚀'))

    assert dialect.lanes('a"b\\c 🚀') == [("default", 0)]


@pytest.mark.parametrize("size", SIZES)
def test_a_megabyte_goes_in_and_comes_out(dialect, size):
    big = "ä\\" * 262_144 + "\n" * 524_288
    store(dialect, [*several(size - 1), new(big)])

    *_, job = take(dialect, size)
    assert json.loads(job.args) == [big]


@pytest.mark.parametrize("size", SIZES)
def test_a_future_time_is_kept_to_the_microsecond(dialect, size):
    due = moment("2099-07-01T02:30:00.123456")
    jobs = several(size, run_after=due)
    store(dialect, jobs)

    assert {live(job).available_at for job in jobs} == {due}
    assert state(jobs[0]) == "scheduled"


@pytest.mark.parametrize("size", SIZES)
def test_a_past_time_counts_as_now(dialect, size):
    # A row below the claim floor would wait for the next claim without floors.
    times = store(dialect, jobs := several(size, run_after=hours(-48)))

    assert [live(job).available_at for job in jobs] == times
    assert places(take(dialect, size)) == list(range(size))


@pytest.mark.parametrize("size", [3, 250])
def test_one_bad_job_stops_all(dialect, size):
    jobs = several(size)

    with pytest.raises(IntegrityError):
        dialect.insert_many([*jobs, new(id=jobs[0].id)])

    assert not LiveJob.objects.exists()
    # And the connection still works.
    dialect.insert_many(jobs)
    assert LiveJob.objects.count() == size


def test_an_id_is_stored_once(dialect):
    job = new()
    dialect.insert(job)

    with pytest.raises(IntegrityError):
        dialect.insert(job)

    assert LiveJob.objects.count() == 1


@pytest.mark.parametrize("size", SIZES)
def test_the_callers_commit_keeps_and_the_callers_rollback_removes(dialect, size):
    kept, removed = several(size), several(size)

    with transaction.atomic():
        store(dialect, kept)
    with transaction.atomic():
        store(dialect, removed)
        transaction.set_rollback(True)

    assert LiveJob.objects.count() == size
    assert live(kept[-1])
    assert not live(removed[-1])
    assert not ended(removed[-1])


@pytest.mark.parametrize("size", [3, 250])
def test_a_failed_bulk_inside_a_savepoint_harms_nothing_else(dialect, size):
    with transaction.atomic():
        dialect.insert(kept := new())
        with pytest.raises(IntegrityError), transaction.atomic():
            dialect.insert_many([*several(size), new(id=kept.id)])

    assert LiveJob.objects.count() == 1


def test_notifying_changes_nothing_that_is_stored(dialect):
    dialect.insert(new(0), notify=False)
    dialect.insert_many(several(2), notify=False)
    dialect.insert(new(0), notify=True)
    dialect.insert_many(several(2), notify=True)

    assert LiveJob.objects.count() == 6
