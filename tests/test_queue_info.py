"""What an operator can ask of a queue and tell it; and operations on many jobs."""

import asyncio
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async as in_that_thread
from django.db import connection, connections, transaction
from django.utils import timezone

from tests import tasks
from tests.contract.rows import NODE, new, take
from tests.running import fresh, run_ready
from windlass import api
from windlass.api import QueueInfo
from windlass.db import Lane
from windlass.db import dialect as make_dialect
from windlass.exceptions import EnqueueError, StaleJob
from windlass.jobs import lifecycle
from windlass.models import EndedJob, Job, LiveJob, Queue
from windlass.signals import job_discarded

pytestmark = pytest.mark.django_db(transaction=True)
mail = tasks.add.using(queue_name="mail")


@pytest.fixture
def db():
    return make_dialect("default")


def enqueue(count=1, task=mail):
    return [task.enqueue(number, 1) for number in range(count)]


def seconds_ago(seconds):
    return timezone.now() - timedelta(seconds=seconds)


# One queue


def test_size_counts_what_is_ready():
    enqueue(3)
    mail.using(run_after=timedelta(hours=1)).enqueue(1, 1)
    tasks.add.enqueue(1, 1)

    assert QueueInfo("mail").size == 3
    assert QueueInfo("nothing").size == 0


def test_latency_is_the_age_of_the_oldest_ready_job():
    assert QueueInfo("mail").latency == 0.0
    enqueue(2)
    mail.using(priority=-5).enqueue(1, 1)
    LiveJob.objects.filter(nice=5).update(available_at=seconds_ago(60))

    assert 60 <= QueueInfo("mail").latency < 70


def test_time_in_a_pause_is_nobodys_latency():
    enqueue()
    LiveJob.objects.update(available_at=seconds_ago(100))
    QueueInfo("mail").pause()
    assert QueueInfo("mail").latency is None
    Queue.objects.update(paused_at=seconds_ago(70))

    QueueInfo("mail").resume()

    assert 30 <= QueueInfo("mail").latency < 40


def test_a_pause_from_before_the_job_came_takes_nothing_off():
    QueueInfo("mail").pause()
    Queue.objects.update(paused_at=seconds_ago(1000))
    QueueInfo("mail").resume()
    enqueue()
    LiveJob.objects.update(available_at=timezone.now())

    assert 0 <= QueueInfo("mail").latency < 5


def test_a_paused_queue_is_claimed_by_nobody_and_takes_new_jobs(db):
    assert QueueInfo("mail").pause("the provider is down")
    (result,) = enqueue()
    other = tasks.add.enqueue(1, 1)

    run_ready()

    assert fresh(result).state == "ready"
    assert fresh(other).state == "succeeded"
    info = QueueInfo("mail")
    assert (info.paused, info.pause_reason) == (True, "the provider is down")

    assert info.resume()
    run_ready()
    assert fresh(result).state == "succeeded"
    assert (info.paused, info.pause_reason) == (False, "")


def test_pausing_twice_and_resuming_twice_do_no_harm():
    info = QueueInfo("mail")
    assert not info.resume()
    assert [info.pause("first"), info.pause("second")] == [True, False]
    assert info.pause_reason == "first"
    assert [info.resume(), info.resume()] == [True, False]


def test_a_pause_that_is_rolled_back_was_none(db):
    (result,) = enqueue()

    with transaction.atomic():
        QueueInfo("mail").pause()
        transaction.set_rollback(True)

    run_ready()
    assert fresh(result).state == "succeeded"


def test_what_was_claimed_before_a_pause_goes_on(db):
    enqueue()
    (job,) = take(db, 1, Lane("mail", 0))

    QueueInfo("mail").pause()

    assert LiveJob.objects.running().get().node == NODE
    assert str(LiveJob.objects.get().id) == job.id


def test_names_of_queues_and_backends_are_exact(db):
    db.insert_many([new(queue="Mail"), new(backend="other", queue="x")])
    QueueInfo("mail").pause()
    QueueInfo("x").pause()

    assert len(take(db, 5, Lane("Mail", 0))) == 1
    claimed = db.claim(NODE, "other", [Lane("x", 0)], 5)
    assert len(claimed) == 1


def test_all_names_queues_with_jobs_and_paused_ones():
    enqueue()
    QueueInfo("later").pause()
    QueueInfo("past").pause()
    QueueInfo("past").resume()

    assert QueueInfo.all() == [QueueInfo("later"), QueueInfo("mail")]


def test_clear_throws_away_what_is_ready_and_nothing_else():
    ready = enqueue(3)
    later = mail.using(run_after=timedelta(hours=1)).enqueue(1, 1)
    other = tasks.add.enqueue(1, 1)

    assert QueueInfo("mail").clear() == 3

    assert {fresh(result).state for result in ready} == {"discarded"}
    assert (fresh(later).state, fresh(other).state) == ("scheduled", "ready")


def test_drain_runs_what_is_ready_here():
    results = enqueue(3)
    other = tasks.add.enqueue(1, 1)

    assert QueueInfo("mail").drain() == 3

    assert [fresh(result).return_value for result in results] == [1, 2, 3]
    assert fresh(other).state == "ready"
    QueueInfo("mail").pause()
    enqueue()
    assert QueueInfo("mail").drain() == 0


def test_each_has_an_async_twin():
    enqueue(2)

    async def ask():
        info = QueueInfo("mail")
        assert await info.asize() == 2
        assert await info.alatency() >= 0
        assert await info.apause("why")
        assert await info.apaused()
        assert await info.aresume()
        assert await info.aclear() == 2
        assert await info.adrain() == 0
        await in_that_thread(connections.close_all)()

    asyncio.run(ask())


def test_the_claim_asks_for_pauses_in_its_own_statement(
    db, django_assert_max_num_queries
):
    enqueue()

    with django_assert_max_num_queries(4):
        assert len(take(db, 1, Lane("mail", 0))) == 1


# Many jobs


@pytest.fixture
def failed():
    def failed(count, task=tasks.boom):
        results = [task.enqueue() for _ in range(count)]
        run_ready()
        assert {fresh(result).state for result in results} == {"failed"}
        return results

    return failed


def test_failed_jobs_are_retried_in_batches(failed):
    results = failed(5)
    tasks.add.enqueue(1, 1)
    run_ready()

    assert api.retry_failed_jobs(batch_size=2) == 5

    assert {fresh(result).state for result in results} == {"ready"}
    assert api.retry_failed_jobs() == 0


def test_only_those_named_are_meant(failed):
    first, second = failed(2)
    (mails,) = failed(1, tasks.boom.using(queue_name="mail"))
    done = tasks.add.enqueue(1, 1)
    run_ready()

    assert api.retry_failed_jobs([first.id, done.id, "nonsense"]) == 1
    assert api.discard_failed_jobs(queue_name="mail") == 1
    assert api.discard_failed_jobs(task_path="tests.tasks.add") == 0
    assert [fresh(r).state for r in (first, second, mails)] == [
        *("ready", "failed", "discarded")
    ]


def test_waiting_jobs_are_thrown_away_by_what_they_wait_for(db):
    (ready,) = enqueue()
    later = mail.using(run_after=timedelta(hours=1)).enqueue(1, 1)
    (held,) = enqueue()
    lifecycle.block(db, [held.id], "limit")

    assert api.discard_blocked_jobs() == 1
    assert [fresh(r).state for r in (ready, later, held)] == [
        *("ready", "scheduled", "discarded")
    ]
    assert api.discard_scheduled_jobs() == 1
    assert api.discard_ready_jobs([later.id]) == 0
    assert api.discard_ready_jobs() == 1
    assert not LiveJob.objects.exists()


def test_a_running_job_is_never_thrown_away(db):
    enqueue()
    take(db, 1, Lane("mail", 0))

    assert api.discard_ready_jobs(batch_size=1) == 0

    assert LiveJob.objects.running().count() == 1


def test_other_backends_are_not_meant(db):
    db.insert(new(backend="other"))

    assert api.discard_ready_jobs() == 0
    assert LiveJob.objects.count() == 1


def test_what_is_thrown_away_is_announced_at_the_commit():
    results, said = enqueue(2), []

    def receiver(sender, task_result, **kwargs):
        assert connection.in_atomic_block is False
        said.append((task_result.id, task_result.state))

    job_discarded.connect(receiver)
    with transaction.atomic():
        api.discard_ready_jobs()
        assert said == []
    job_discarded.disconnect(receiver)

    assert sorted(said) == [(result.id, "discarded") for result in results]


def test_a_batch_of_none_is_refused():
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        api.retry_failed_jobs(batch_size=0)


# One job


def test_a_scheduled_job_can_be_run_now():
    result = mail.using(run_after=timedelta(days=3)).enqueue(1, 1)

    api.run_now(result.id)
    api.run_now(result.id)

    assert fresh(result).state == "ready"
    run_ready()
    with pytest.raises(StaleJob, match="is succeeded, and only a scheduled job"):
        api.run_now(result.id)


def test_a_retry_can_wait_for_its_time(failed):
    (result,) = failed(1)
    moment = timezone.now() + timedelta(hours=2)

    api.schedule_failed_job_retry(result.id, retry_at=moment)

    job = Job.objects.get(pk=result.id)
    assert (job.state, job.attempts) == ("scheduled", 1)
    assert job.run_after == moment
    with pytest.raises(StaleJob):
        api.schedule_failed_job_retry(result.id, retry_at=moment)


def test_a_naive_time_is_refused_with_nothing_changed(failed):
    (result,) = failed(1)

    naive = timezone.now().replace(tzinfo=None)
    with pytest.raises(ValueError, match="retry_at must be an aware datetime"):
        api.schedule_failed_job_retry(result.id, retry_at=naive)

    assert fresh(result).state == "failed"


def test_a_copy_is_a_job_of_its_own():
    first = mail.using(priority=7, metadata={"a": 1}).enqueue(1, b=2)
    run_ready()

    copy = api.enqueue_copy(first.id)

    job = Job.objects.get(pk=copy.id)
    assert copy.id != first.id
    assert (job.state, job.args, job.kwargs) == ("ready", [1], {"b": 2})
    assert (job.queue_name, job.priority, job.metadata) == ("mail", 7, {"a": 1})
    assert fresh(first).state == "succeeded"


def test_a_copy_of_what_is_no_task_any_more_is_refused(db):
    job = new(path="shop.tasks.gone")
    db.insert(job)

    with pytest.raises(EnqueueError, match=r"no task 'shop\.tasks\.gone'"):
        api.enqueue_copy(job.id)
    with pytest.raises(Job.DoesNotExist):
        api.enqueue_copy("0" * 32)
    assert LiveJob.objects.count() == 1


def test_the_public_functions_have_async_twins():
    result = mail.using(run_after=timedelta(days=3)).enqueue(1, 1)

    async def act():
        await api.arun_now(result.id)
        copy = await api.aenqueue_copy(result.id)
        assert await api.adiscard_ready_jobs([copy.id]) == 1
        (claimed,) = await api.aclaim_ready_jobs(1, "mail")
        done = await api.aexecute_claimed_job(claimed)
        await in_that_thread(connections.close_all)()
        return done

    assert asyncio.run(act()).return_value == 2
    assert EndedJob.objects.filter(state="succeeded").count() == 1
    assert api.arun_now.__doc__ == "See ``run_now``."
