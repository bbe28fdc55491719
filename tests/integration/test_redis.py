"""Redis carries the wake-ups; whatever becomes of it, nothing depends on it."""

import os
import signal

import pytest
import trustme
from django.db import connection, transaction

from tests.integration.project import tasks
from tests.integration.runtime import workers
from tests.integration.states import job, states, wait_without_looks
from tests.servers import Redis, Sentinel, private
from tests.waiting import eventually, never
from windlass import api, conf, db
from windlass.jobs import redis_wakeups, wakeups
from windlass.models import LiveJob

pytestmark = pytest.mark.skipif(
    connection.vendor != "sqlite"
    or not (Redis.exists() or os.environ.get("CI") == "true"),
    reason="needs redis-server, and it is the same with all that notify nobody",
)
# Long enough for a poll not to be taken for a wake-up.
SELDOM = {"polling_interval": 20.0}


@pytest.fixture
def redis():
    with private(Redis) as server:
        yield server


@pytest.fixture
def by_redis(redis, settings, start):
    """Start runtimes that are woken by Redis, as this process wakes them."""
    options = {"wakeup": "redis", "redis_url": redis.url}
    wakeups._by_redis.cache_clear()
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": options}}

    def by_redis(*arguments, **given):
        return start(*arguments, options={**options, **given})

    yield by_redis
    wakeups._by_redis.cache_clear()


def subscribers(redis, channel="windlass_default"):
    said = redis.cli("pubsub", "numsub", channel)
    return int(said.split()[-1]) if said.strip() else 0


def until_idle(redis):
    eventually(lambda: subscribers(redis) == 1)


def test_a_new_job_wakes_an_idle_worker(redis, by_redis, journal):
    by_redis(**workers(threads=1, **SELDOM))
    until_idle(redis)
    # A worker looks now and then for a while after its start.
    never(lambda: False, during=1.5)

    for number in range(5):
        tasks.work.enqueue(label=str(number))
        eventually(lambda number=number: len(journal.ends()) == number + 1, timeout=8)
        never(lambda: False, during=0.5)


def test_a_job_is_told_of_at_its_commit_and_not_before(redis, by_redis, monkeypatch):
    import redis as package

    # A moment lasts as long as this busy machine needs.
    monkeypatch.setattr(redis_wakeups, "TELL_EVERY", 60)

    listener = package.Redis.from_url(redis.url).pubsub(ignore_subscribe_messages=True)
    channel = "windlass_default/queue/default"
    listener.subscribe(channel)
    eventually(lambda: subscribers(redis, channel) == 1)

    with transaction.atomic():
        tasks.work.enqueue()
        tasks.work.enqueue()
        never(lambda: listener.get_message(timeout=0.01), during=0.3)
    with transaction.atomic():
        tasks.swim.enqueue()
        transaction.set_rollback(True)

    message = eventually(lambda: listener.get_message(timeout=0.1))
    assert message["data"] == b"default"
    never(lambda: listener.get_message(timeout=0.01), during=0.3)
    assert LiveJob.objects.count() == 2


def test_an_ear_hears_of_the_queues_it_is_for_and_of_no_others(redis, by_redis):
    carrier = wakeups.wakeups(conf.options("default"))
    own = db.dialect("default")
    ear = carrier.listen("windlass_default", db=own, queues=["mail*", "a[b]?", "odd"])
    assert ear.wait(5) == [wakeups.SOMETHING]

    for queue in ("default", "ma", "ab", "abc", "a[b]x", "odds", "mail.in", "a[b]?"):
        tasks.work.using(queue_name=queue).enqueue()
    carrier.tell("windlass_default", "all", own)

    notes = []
    eventually(lambda: notes.extend(ear.wait(0.1)) or len(notes) == 3)
    never(lambda: ear.wait(0.05), during=0.3)
    assert notes == ["mail.in", "a[b]?", "all"]
    ear.close()


def test_the_master_is_found_by_sentinels_and_found_again(redis, by_redis, journal):
    with private(Sentinel) as sentinel:
        sentinel.watch(redis)
        runtime = by_redis(redis_url=sentinel.url, **workers(threads=1))
        until_idle(redis)
        tasks.work.enqueue()
        eventually(lambda: states() == {"succeeded": 1})
        redis.stop()
        eventually(lambda: "Redis does not answer" in runtime.said())
        with private(Redis) as other:
            sentinel.watch(other)

            until_idle(other)
            assert runtime.stop() == 0


def test_tls_is_used_and_the_certificate_is_checked(redis, by_redis, tmp_path, journal):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    own = authority.issue_cert("127.0.0.1")
    own.private_key_and_cert_chain_pem.write_to_path(tmp_path / "own.pem")
    redis.stop()
    files = {name: str(tmp_path / f"{name}.pem") for name in ("ca", "own")}
    redis.start_with_tls(certificate=files["own"], authority=files["ca"])
    url = f"rediss://127.0.0.1:{redis.port}/0"

    stranger = by_redis(redis_url=url, **workers(threads=1))
    eventually(lambda: "certificate verify failed" in stranger.said())
    assert stranger.stop() == 0
    runtime = by_redis(redis_url=f"{url}?ssl_ca_certs={files['ca']}")
    eventually(lambda: redis.patterns() == 1)

    assert "does not answer" not in runtime.said()
    assert runtime.stop() == 0


def test_who_waits_hears_of_the_end(redis, by_redis, monkeypatch):
    by_redis(**workers(threads=1))
    until_idle(redis)
    api.wait_for_completion(tasks.work.enqueue().id)

    wait_without_looks(monkeypatch)


def test_a_cancel_is_heard(redis, by_redis, journal, tmp_path):
    result = tasks.wait_for.enqueue(str(tmp_path / "gate"))
    by_redis(**workers(threads=1))
    eventually(journal.starts)

    assert api.cancel_job(result.id)

    eventually(lambda: job(result).state == "cancelled")


def test_without_redis_at_the_start_everything_works_and_it_joins_later(
    redis, by_redis, journal
):
    redis.stop()
    first = tasks.work.enqueue()
    runtime = by_redis(**workers(threads=1))
    eventually(lambda: job(first).state == "succeeded")
    assert api.wait_for_completion(tasks.work.enqueue().id).state == "succeeded"
    eventually(lambda: runtime.said().count("Redis does not answer") >= 1)

    redis.start()

    until_idle(redis)
    eventually(lambda: "Redis answers again" in runtime.said())
    assert api.wait_for_completion(tasks.work.enqueue().id).state == "succeeded"
    assert runtime.stop() == 0


@pytest.mark.parametrize("fault", ["kill", "flush", "hang"])
def test_a_redis_that_fails_in_mid_run_loses_no_job(redis, by_redis, journal, fault):
    runtime = by_redis(**workers(threads=2))
    until_idle(redis)

    for number in range(60):
        tasks.work.enqueue(label=str(number))
        if number == 20:
            strike(redis, fault)
        if number == 40 and fault != "flush":
            restore(redis, fault)

    eventually(lambda: states() == {"succeeded": 60})
    assert set(journal.starts_by_job().values()) == {1}
    until_idle(redis)
    assert runtime.stop() == 0


def strike(redis, fault):
    if fault == "kill":
        redis.stop()
    elif fault == "hang":
        redis.process.send_signal(signal.SIGSTOP)
    else:
        redis.cli("flushall")


def restore(redis, fault):
    if fault == "kill":
        redis.start()
    else:
        redis.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:wrong@127.0.0.1:{port}/0", "Redis does not answer"),
        ("redis://:secret@127.0.0.1:{port}/0", ""),
    ],
)
def test_a_password_is_used_and_a_wrong_one_is_said(
    redis, by_redis, journal, url, said
):
    redis.stop()
    redis.start("--requirepass", "secret")
    runtime = by_redis(redis_url=url.format(port=redis.port), **workers(threads=1))
    result = tasks.work.enqueue()

    eventually(lambda: job(result).state == "succeeded")
    eventually(lambda: said in runtime.said())
    assert bool(said) == ("does not answer" in runtime.said())
    assert "secret" not in runtime.said()
    assert conf.options("default").wakeup == "redis"
