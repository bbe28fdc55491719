"""Who waits for a job learns of its end at once, and of nothing before that."""

import asyncio
import threading
import time
import uuid

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections, transaction

from tests.integration.project import tasks
from tests.integration.runtime import once_in_all, workers
from tests.integration.states import wait_without_looks
from tests.waiting import eventually
from windlass import api, waiting, watcher
from windlass.models import EndedJob, Job, LiveJob


@pytest.fixture(autouse=True)
def nobody_watches():
    yield
    eventually(lambda: not watchers())


def watchers():
    return [t for t in threading.enumerate() if t.name == "windlass-waiting"]


def run(coroutine):
    """Run a coroutine function; the thread that asks for it keeps no connection."""

    async def run():
        try:
            return await coroutine()
        finally:
            await sync_to_async(connections.close_all)()

    return asyncio.run(run())


def later(function):
    """Run a function in another thread, with a connection of its own."""
    found = []

    def call():
        try:
            found.append(function())
        finally:
            connections.close_all()

    thread = threading.Thread(target=call)
    thread.start()
    return thread, found


def test_a_job_that_has_ended_is_given_back_at_once(start):
    result = tasks.work.enqueue()
    start("--drain").wait()

    began = time.monotonic()
    job = api.wait_for_completion(result.id)

    assert time.monotonic() - began < 1
    assert (str(job.id), job.state) == (result.id, "succeeded")


def test_a_job_that_ends_while_one_waits_is_given_back(start, tmp_path):
    gate = tmp_path / "gate"
    result = tasks.wait_for.enqueue(str(gate))
    start()
    thread, found = later(lambda: api.wait_for_completion(result.id))
    eventually(lambda: LiveJob.objects.running().exists())
    assert not found

    gate.touch()

    thread.join(20)
    assert found[0].state == "succeeded"


def test_a_job_that_fails_at_last_is_given_back_then_and_not_before(start):
    job = api.create_task(f"{tasks.__name__}.fail_always", max_attempts=3)
    start()

    found = api.wait_for_completion(job.id)

    assert (found.state, found.attempts, len(found.errors)) == ("failed", 3, 3)


def test_the_time_to_wait_is_kept_and_zero_looks_once(committed):
    result = tasks.work.enqueue()

    began = time.monotonic()
    assert api.wait_for_completion(result.id, timeout=0) is None
    assert time.monotonic() - began < 0.5
    assert not watchers()
    assert api.wait_for_completion(result.id, timeout=0.4) is None
    assert 0.4 <= time.monotonic() - began < 5


def test_a_job_that_is_deleted_meanwhile_is_waited_for_no_more(committed, monkeypatch):
    result = tasks.work.enqueue()
    look, looks = watcher.Watcher._look, []

    def look_and_say(self, seen):
        look(self, seen)
        looks.append(len(seen))

    own_look, own_looks = waiting._look, []

    def look_for_itself(*args, **options):
        answer = own_look(*args, **options)
        own_looks.append(answer)
        return answer

    monkeypatch.setattr(watcher.Watcher, "_look", look_and_say)
    monkeypatch.setattr(waiting, "_look", look_for_itself)
    thread, found = later(lambda: api.wait_for_completion(result.id))
    # Whoever asks for a job that is gone already is told that there is none.
    eventually(lambda: 1 in looks and own_looks)

    LiveJob.objects.all()._raw_delete("default")

    thread.join(20)
    assert found == [None]


def test_a_cancelled_job_has_ended(committed):
    result = tasks.work.enqueue()
    thread, found = later(lambda: api.wait_for_completion(result.id))

    api.cancel_job(result.id)

    thread.join(20)
    assert found[0].state == "cancelled"


@pytest.mark.parametrize("id", ["nonsense", "01234567-89ab-7def-8123-456789abcdef"])
def test_an_unknown_job_is_an_error(committed, id):
    with pytest.raises(Job.DoesNotExist):
        api.wait_for_completion(id)
    with pytest.raises(Job.DoesNotExist):
        run(lambda: api.await_for_completion(id))
    with pytest.raises(ValueError, match="timeout"):
        api.wait_for_completion(id, timeout=-1)


@pytest.mark.skipif(connection.vendor == "sqlite", reason="it has one writer at a time")
def test_inside_a_transaction_one_waits_for_what_was_committed_before(start):
    result = tasks.work.enqueue()
    start()

    with transaction.atomic():
        assert api.wait_for_completion(result.id).state == "succeeded"


def test_what_is_not_committed_does_not_end(committed):
    with transaction.atomic():
        own = tasks.work.enqueue()
        assert api.wait_for_completion(own.id, timeout=0.3) is None
        transaction.set_rollback(True)


def test_within_a_running_event_loop_both_spellings_work(start):
    first, second, late = (tasks.work.enqueue() for _ in range(3))
    start()

    async def wait():
        return [
            api.wait_for_completion(first.id),
            await api.await_for_completion(second.id),
            await api.await_for_completion(late.id, timeout=20),
        ]

    assert {job.state for job in run(wait)} == {"succeeded"}


def test_an_async_wait_keeps_its_time(committed):
    result = tasks.work.enqueue()

    async def wait():
        assert await api.await_for_completion(result.id, timeout=0) is None
        return await api.await_for_completion(result.id, timeout=0.3)

    assert run(wait) is None


def test_many_who_wait_share_one_connection(start):
    results = [tasks.work.enqueue() for _ in range(300)]

    async def wait():
        waits = [api.await_for_completion(result.id) for result in results]
        jobs = await asyncio.gather(*waits)
        most.append(len(watchers()))
        return jobs

    most = []
    start(options=workers(threads=3))
    jobs = run(wait)

    assert most[0] <= 1

    assert [str(job.id) for job in jobs] == [result.id for result in results]


def test_one_who_comes_as_the_last_one_leaves_keeps_no_thread_awake(committed):
    own = watcher.Watcher("default")
    own.thread = threading.current_thread()
    first, second = uuid.uuid4(), uuid.uuid4()
    own.add(first, print)

    own.remove(first, print)
    assert own.attention.is_set()
    own.add(second, print)

    assert not own.attention.is_set()


def test_one_who_fails_when_told_keeps_nothing_from_the_others(start, tmp_path):
    gate = tmp_path / "gate"
    first, second = tasks.work.enqueue(), tasks.wait_for.enqueue(str(gate))
    told = []

    def fail(job):
        told.append(job)
        raise RuntimeError("as a receiver may")

    thread, found = later(lambda: api.wait_for_completion(second.id))
    with watcher.watched(uuid.UUID(first.id), "default", fail):
        start()
        eventually(lambda: told)
        gate.touch()
        thread.join(30)

    assert found[0].state == "succeeded"


@once_in_all
def test_workers_tell_the_ends_of_jobs_while_somebody_waits(start, monkeypatch):
    start(options=workers(threads=1))
    api.wait_for_completion(tasks.work.enqueue().id)

    wait_without_looks(monkeypatch)


@once_in_all
def test_notes_that_are_lost_only_delay(start, monkeypatch):
    look, looks = waiting._look, []

    def look_and_say(*args, **kwargs):
        looks.append(look(*args, **kwargs))
        return looks[-1]

    monkeypatch.setattr(waiting, "_look", look_and_say)
    result = tasks.work.enqueue()
    thread, found = later(lambda: api.wait_for_completion(result.id))
    # From now on only the watcher needs its connection.
    eventually(lambda: looks and watchers())
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    start("--drain").wait()

    thread.join(20)
    assert found[0].state == "succeeded"
    assert EndedJob.objects.count() == 1
