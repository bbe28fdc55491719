"""Who follows a log is woken by notes, and looks for itself where none are heard."""

import asyncio
import os
import statistics
import threading
import time
from contextlib import contextmanager

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections

from tests.integration.runtime import once_in_all
from tests.processes.models import Report
from tests.processes.test_runtime import nobody_left, ran, runtime  # noqa: F401
from tests.servers import PgBouncer, Redis, private
from tests.waiting import eventually, never
from windlass.jobs import wakeups
from windlass.processes import following, reading
from windlass.processes.lines import line, target_of
from windlass.processes.writing import Writer

# Longer than any test waits.
NEVER = 600.0
LISTENING = "query LIKE 'LISTEN \"windlass_default/lines\"%%'"


@pytest.fixture(autouse=True)
def nobody_follows():
    yield
    eventually(lambda: not threads())


@pytest.fixture
def report(committed):
    report = Report.objects.create()
    report.mark_running()
    return report


@pytest.fixture
def only_woken(monkeypatch):
    """Who hears notes does not look for itself."""
    monkeypatch.setattr(following, "SELDOM", NEVER)


def threads():
    return [t for t in threading.enumerate() if t.name == "windlass-follows"]


def hears():
    return following._hearer("default").hears


def following_now():
    return sum(map(len, following._hearer("default").following.values()))


def say(report, *texts):
    Writer(target_of(report)).write([line(text) for text in texts])


@contextmanager
def followed(report):
    """What somebody who follows has seen so far, and the thread that does."""
    seen = []

    def follow():
        try:
            for each in report.stream():
                seen.append(each.message)
        finally:
            connections.close_all()

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield seen, thread
    finally:
        report.mark_cancelled()
        thread.join(30)


@once_in_all
def test_who_follows_is_woken_by_lines_and_by_the_end(report, only_woken):
    with followed(report) as (seen, thread):
        eventually(hears)
        for number in range(20):
            say(report, f"line {number}")
            eventually(lambda n=number: len(seen) == n + 1)

        report.mark_succeeded()

        thread.join(30)
        assert not thread.is_alive()


@once_in_all
def test_lines_of_a_run_are_seen_soon_after_they_were_said(runtime, only_woken):  # noqa: F811
    runtime()
    report = Report.objects.create(kind="tick", given={"lines": 100, "seconds": 0.02})
    report.start()

    late = [
        time.time() - each.created.timestamp()
        for each in report.stream()
        if each.stream == "log"
    ]

    assert ran(report).status == "succeeded"
    assert len(late) == 100
    assert statistics.median(late) < 0.3, sorted(late)
    assert sorted(late)[-2] < 1, sorted(late)


@once_in_all
def test_who_hears_notes_asks_the_database_little(report, only_woken, monkeypatch):
    looks = []

    def counted(*given, look=reading.look):
        looks.append(given)
        return look(*given)

    monkeypatch.setattr(reading, "look", counted)
    other = Report.objects.create()
    with followed(report):
        eventually(hears)
        say(report, "one")
        eventually(lambda: len(looks) >= 3)
        never(lambda: say(other, "not of it"), during=0.3)
        count = len(looks)

        never(lambda: len(looks) > count, during=0.5)


@once_in_all
def test_all_who_follow_share_one_thread_and_one_connection(committed, only_woken):
    reports = [Report.objects.create() for _each in range(3)]
    for each in reports:
        each.mark_running()

    async def follow(report):
        return [each.message async for each in report.astream()]

    async def crowd():
        everybody = [asyncio.create_task(follow(r)) for r in reports for _ in range(70)]
        wait = sync_to_async(eventually, thread_sensitive=False)
        await wait(lambda: hears() and following_now() == len(everybody))
        assert len(threads()) == 1
        assert await sync_to_async(listeners)() == 1
        for each in reports:
            await sync_to_async(say)(each, f"of {each.pk}")
            await each.acancel()
        return await asyncio.gather(*everybody)

    heard = asyncio.run(crowd())

    assert len(heard) == 210
    for place, lines in enumerate(heard):
        assert lines[0] == f"of {reports[place // 70].pk}"
    assert following_now() == 0


def listeners():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity "
            f"WHERE datname = current_database() AND {LISTENING}"
        )
        return cursor.fetchone()[0]


@once_in_all
def test_who_hears_no_more_looks_until_notes_are_heard_again(
    report, only_woken, monkeypatch
):
    with followed(report) as (seen, _thread):
        eventually(hears)
        monkeypatch.setattr(following, "AGAIN", 3.0)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                f"WHERE datname = current_database() AND {LISTENING}"
            )
        eventually(lambda: not hears())

        say(report, "by a look")

        eventually(lambda: seen == ["by a look"])
        assert not hears()
        eventually(hears)
        say(report, "by a note")
        eventually(lambda: seen[1:] == ["by a note"])


def test_without_notes_everybody_looks(report, settings):
    entry = {**settings.TASKS["default"], "OPTIONS": {"wakeup": "poll"}}
    settings.TASKS = {"default": entry}
    with followed(report) as (seen, thread):
        say(report, "seen")
        eventually(lambda: seen == ["seen"])
        assert not threads()

        report.mark_succeeded()

        thread.join(30)
        assert not thread.is_alive()


def test_two_who_follow_on_one_loop_do_not_wait_for_each_other(report):
    silent = Report.objects.create()
    silent.mark_running()

    async def first(report):
        async for each in report.astream():
            return each.message

    async def both():
        try:
            waits = asyncio.create_task(first(silent))
            reads = asyncio.create_task(first(report))
            await sync_to_async(say)(report, "heard")
            said = await asyncio.wait_for(reads, 30)
            await sync_to_async(say)(silent, "at last")
            return said, await asyncio.wait_for(waits, 30)
        finally:
            await sync_to_async(connections.close_all)()

    assert asyncio.run(both()) == ("heard", "at last")


def test_who_follows_what_is_deleted_comes_to_an_end(report):
    with followed(report) as (_seen, thread):
        Report.objects.filter(pk=report.pk).delete()

        thread.join(30)
        assert not thread.is_alive()
        report.pk = Report.objects.create().pk


@pytest.fixture
def pooled(monkeypatch):
    """The suite's database behind a transaction pooler, as another alias."""
    with private(PgBouncer) as pooler:
        own = {**connection.settings_dict, "HOST": "127.0.0.1", "PORT": pooler.port}
        monkeypatch.setitem(connections.settings, "pooled", own)
        yield "pooled"
        connections["pooled"].close()
        del connections["pooled"]


@pytest.mark.skipif(
    connection.vendor != "postgresql"
    or not (PgBouncer.exists() or os.environ.get("CI") == "true"),
    reason="needs PostgreSQL and pgbouncer",
)
def test_behind_a_pooler_everybody_looks(report, pooled, only_woken):
    behind = Report.objects.using(pooled).get(pk=report.pk)
    with followed(behind) as (seen, _thread):
        eventually(lambda: following._hearer(pooled)._listen_at)
        eventually(lambda: not threads())

        say(behind, "one")
        say(report, "two")

        eventually(lambda: seen == ["one", "two"])
        assert not following._hearer(pooled).hears


@pytest.mark.skipif(
    connection.vendor != "sqlite"
    or not (Redis.exists() or os.environ.get("CI") == "true"),
    reason="needs redis-server, and it is the same with all that notify nobody",
)
def test_redis_carries_notes_and_when_it_is_away_everybody_looks(
    report, settings, only_woken
):
    with private(Redis) as redis:
        options = {"wakeup": "redis", "redis_url": redis.url}
        settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": options}}
        wakeups._by_redis.cache_clear()
        try:
            with followed(report) as (seen, _thread):
                eventually(hears)
                say(report, "by a note")
                eventually(lambda: seen == ["by a note"])
                redis.stop()
                eventually(lambda: not hears())
                say(report, "by a look")
                eventually(lambda: seen[1:] == ["by a look"])
        finally:
            wakeups._by_redis.cache_clear()
