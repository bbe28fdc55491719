"""Events, sent before, while or after a job begins to wait; and what is committed."""

import threading
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction

from tests import durable_tasks as shop
from tests.durable_tasks import code, happened
from tests.running import fresh, run_one, run_ready
from tests.waiting import eventually
from windlass import api, db
from windlass.db import memos
from windlass.exceptions import StaleJob
from windlass.jobs import durable
from windlass.models import Event, Job, LiveJob, Memo


@pytest.fixture(autouse=True)
def afresh(committed):
    happened.clear()
    code.clear()


def state(result):
    return fresh(result).state


# Before, after, in time


def test_an_event_that_came_first_is_taken_at_once():
    result = shop.wait.enqueue()
    assert api.send_event(result.id, "paid", {"amount": 5}) is True

    assert run_one().return_value == [{"amount": 5}]


def test_a_job_that_waits_is_called_again_with_its_event():
    result = shop.wait.enqueue()
    run_one()
    job = fresh(result)
    assert (job.state, job.attempts) == ("scheduled", 0)

    api.send_event(result.id, "paid", [1])

    assert state(result) == "ready"
    assert run_one().return_value == [[1]]
    assert fresh(result).attempts == 1


def test_an_event_of_another_name_wakes_nobody():
    result = shop.wait.enqueue()
    run_one()

    api.send_event(result.id, "refused")

    assert state(result) == "scheduled"


@pytest.mark.parametrize("delay", ["sleeps", "is to start later", "waits for a retry"])
def test_an_event_wakes_only_who_waits_for_it(delay):
    if delay == "sleeps":
        result = shop.sleepy.enqueue(600)
        run_one()
    elif delay == "is to start later":
        result = shop.wait.using(run_after=timedelta(hours=1)).enqueue()
    else:
        code["fails"] = True
        result = shop.wait.enqueue()
        api.send_event(result.id, "paid")
        run_one()
    assert state(result) == "scheduled"

    api.send_event(result.id, "paid")

    assert state(result) == "scheduled"


def test_events_of_one_name_are_taken_in_their_order_each_once():
    result = shop.wait.enqueue(count=3)
    api.send_event(result.id, "paid", 1)
    api.send_event(result.id, "paid", 2)
    run_one()
    assert state(result) == "scheduled"
    api.send_event(result.id, "paid", 3)
    api.send_event(result.id, "paid", 4)

    assert run_one().return_value == [1, 2, 3]


def test_an_event_is_given_again_to_every_later_attempt():
    code["fails"] = True
    result = shop.wait.enqueue()
    api.send_event(result.id, "paid", "first")
    run_one()
    code.clear()
    api.send_event(result.id, "paid", "second")
    api.run_now(result.id)

    assert run_one().return_value == ["first"]


def test_a_wait_that_took_too_long_gives_the_default_for_good():
    result = shop.wait.enqueue(timeout=600)
    run_one()
    job = fresh(result)
    assert 590 < (job.run_after - job.enqueued_at).total_seconds() < 700
    # Ten minutes later.
    Memo.objects.filter(kind="wait").update(result=0)
    api.run_now(result.id)
    code["fails"] = True
    run_one()
    api.send_event(result.id, "paid", "at last")
    code.clear()
    api.run_now(result.id)

    assert run_one().return_value == ["too late"]


def test_a_wait_of_no_time_is_a_look():
    shop.wait.enqueue(timeout=0)

    assert run_one().return_value == ["too late"]


def test_the_time_of_a_wait_runs_from_its_beginning():
    result = shop.wait.enqueue(timeout=600)
    run_one()
    before = fresh(result).run_after
    api.run_now(result.id)
    run_one()

    assert abs((fresh(result).run_after - before).total_seconds()) < 1


def test_who_waits_for_long_looks_now_and_then():
    result = shop.wait.enqueue()
    run_one()
    job = fresh(result)

    assert (job.run_after - job.enqueued_at).total_seconds() < durable.LOOK_EVERY + 60


def test_a_coroutine_waits():
    result = shop.wait_later.enqueue()
    run_one()
    assert state(result) == "scheduled"
    api.send_event(result.id, "paid", 1)
    assert run_one().return_value == 1

    shop.wait_later.enqueue(timeout=0)
    assert run_one().return_value == "too late"


async def _send(result):
    return await api.asend_event(result.id, "paid", "asynchronously")


def test_events_have_an_async_twin():
    result = shop.wait.enqueue()
    async_to_sync(_send)(result)

    assert run_one().return_value == ["asynchronously"]


def test_a_step_that_could_not_be_committed_was_not_recorded():
    shop.write_again.enqueue()

    code["commit fails"] = True
    assert run_one().status == "SUCCESSFUL"

    assert happened == ["write", "write"]
    assert Memo.objects.count() == 1


# At the door


def test_an_event_is_stored_once_for_its_id():
    first, second = shop.wait.enqueue(count=2), shop.wait.enqueue()
    sent = [
        api.send_event(first.id, "paid", 1, event_id="evt_1"),
        api.send_event(first.id, "paid", 2, event_id="evt_1"),
        api.send_event(second.id, "paid", 3, event_id="evt_1"),
        api.send_event(first.id, "paid", 4, event_id="EVT_1"),
    ]

    assert sent == [True, False, True, True]
    assert [result.return_value for result in run_ready()] == [[1, 4], [3]]
    # The job that had it has it no second time.
    assert Event.objects.count() == 3


def test_a_rolled_back_event_was_never_sent():
    result = shop.wait.enqueue()
    run_one()
    with transaction.atomic():
        api.send_event(result.id, "paid")
        transaction.set_rollback(True)

    assert (state(result), Event.objects.count()) == ("scheduled", 0)


def test_a_job_that_failed_may_get_an_event_and_one_that_succeeded_may_not():
    result = shop.wait.enqueue()
    api.cancel_job(result.id)
    api.send_event(result.id, "paid", 1)
    api.retry_failed_job(result.id)
    assert run_one().return_value == [1]

    with pytest.raises(StaleJob, match="has succeeded, so the event 'paid' was not"):
        api.send_event(result.id, "paid", 2)


@pytest.mark.parametrize(
    ("args", "options", "error", "said"),
    [
        (("paid", object()), {}, TypeError, "the payload is of type object"),
        (("",), {}, ValueError, "name must be a text of 1 to 255"),
        ((None,), {}, ValueError, "name must be a text of 1 to 255"),
        (("nul \0",), {}, ValueError, "name must be a text of 1 to 255"),
        (("half \ud800",), {}, ValueError, "name must be a text of 1 to 255"),
        (("x" * 256,), {}, ValueError, "name must be a text of 1 to 255"),
        (("paid",), {"event_id": ""}, ValueError, "event_id must be a text"),
        (("paid",), {"event_id": 5}, ValueError, "event_id must be a text"),
    ],
)
def test_bad_events_are_refused_and_nothing_is_stored(args, options, error, said):
    result = shop.wait.enqueue()

    with pytest.raises(error, match=said):
        api.send_event(result.id, *args, **options)
    assert not Event.objects.exists()


@pytest.mark.parametrize(
    "id", ["nonsense", None, "01a22dba-3b31-7004-935c-eee846ead66d"]
)
def test_an_unknown_job_gets_no_event(id):
    with pytest.raises(Job.DoesNotExist, match="has no job"):
        api.send_event(id, "paid")


# The race between the look for an event and the record that the job waits


def test_who_puts_the_job_back_sees_an_event_that_came_after_the_look():
    result = shop.look_then.enqueue()
    dialect = db.dialect("default")

    def store():
        # As a sender whose process died before its second look.
        memos.store_event(dialect, result.id, "paid", "in time", None)

    code["after the look"] = store
    run_one()

    assert state(result) == "ready"
    assert run_one().return_value == "in time"


def test_a_sender_that_met_the_job_running_leaves_it_to_who_puts_it_back():
    result = shop.look_then.enqueue()
    code["after the look"] = lambda: api.send_event(result.id, "paid", "in time")
    run_one()

    assert state(result) == "ready"
    assert run_one().return_value == "in time"


@pytest.mark.skipif(
    connection.vendor == "sqlite", reason="its one writer lets no two meet"
)
def test_a_sender_that_commits_after_the_job_was_put_back_looks_again():
    result = shop.look_then.enqueue()
    sent, put_back = threading.Event(), threading.Event()

    def send():
        with transaction.atomic():
            api.send_event(result.id, "paid", "in time")
            sent.set()
            put_back.wait(20)
        connection.close()

    sender = threading.Thread(target=send)

    def begin_to_send():
        sender.start()
        sent.wait(20)

    code["after the look"] = begin_to_send
    run_one()
    # Nobody saw it: it is not committed.
    assert state(result) == "scheduled"
    put_back.set()
    sender.join()

    assert state(result) == "ready"
    assert run_one().return_value == "in time"


@pytest.mark.skipif(
    connection.vendor == "sqlite", reason="its one writer lets no two meet"
)
def test_a_sender_waits_for_who_is_putting_the_job_back():
    """The put-back is said and not committed, so the sender sees a job that runs."""
    result = shop.look_then.enqueue()
    run_one()
    LiveJob.objects.filter(pk=result.id).update(node=1, started_at=db_now())
    sender = threading.Thread(target=send_and_close, args=[result])
    with transaction.atomic():
        LiveJob.objects.filter(pk=result.id).update(node=None, started_at=None)
        sender.start()
        eventually(lambda: not sender.is_alive() or blocked_sender())
        assert sender.is_alive()
    sender.join()

    assert state(result) == "ready"


def send_and_close(result):
    api.send_event(result.id, "paid", "in time")
    connection.close()


def db_now():
    return db.dialect("default").now()


def blocked_sender():
    """Whether another session waits for a lock of ours."""
    sql = {
        "postgresql": "SELECT count(*) FROM pg_locks WHERE NOT granted",
        # The server's table of transactions is not read anew for who reads it often.
        "mysql": "SELECT count(*) FROM information_schema.processlist"
        " WHERE db = DATABASE() AND id <> CONNECTION_ID()"
        " AND info LIKE '%%FOR UPDATE'",
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0] > 0
