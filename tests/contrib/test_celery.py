"""Processes on real workers of Celery, with Redis and with RabbitMQ."""

import signal
import time
from datetime import timedelta

import pytest
from django.db import transaction

from tests.contrib.fleet import Celery
from tests.contrib.fleet import fleet as make_fleet
from tests.integration.runtime import is_running, kill, once_in_all, parent
from tests.processes.models import Report, Stubborn
from tests.processes.test_runtime import ran, said, says
from tests.waiting import eventually

pytestmark = once_in_all
SOON = timedelta(seconds=1)
# What no broker has a part in.
whatever_broker = pytest.mark.parametrize("fleet", ["redis"], indirect=True)


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def fleet(request, django_db_setup, django_db_blocker, tmp_path_factory):
    with django_db_blocker.unblock():
        with make_fleet(request.param, tmp_path_factory.mktemp("fleet")) as found:
            yield found


@pytest.fixture(autouse=True)
def here(fleet, committed, settings):
    """This process, as another of the project: the one that starts processes."""
    app = Celery("tests.contrib", set_as_current=True)
    app.conf.update(fleet.celery)
    settings.WINDLASS_PROCESSES = fleet.processes
    Report.objects.all().delete()
    yield app
    for report in Report.objects.filter(status="running"):
        report.cancel()
        ran(report)
    app.close()
    Report.objects.all().delete()


def begun(kind="wait", says_first="Waiting.", cls=Report, **columns):
    """A process whose code has begun, as its row is then."""
    report = cls.objects.create(kind=kind, **columns)
    report.start()
    says(report, says_first)
    report.refresh_from_db()
    return report


def test_a_process_runs_in_a_process_and_group_of_its_own(fleet):
    report = Report.objects.create()
    id = report.start()

    ran(report)

    assert (report.status, report.error) == ("succeeded", "")
    pid, group, _time = report.result.split()
    assert pid == group
    assert said(report) == ["Started.", "It goes well.", "Finished."]
    assert report.celery_task_id == id
    assert report.worker_pid is None


@whatever_broker
def test_all_it_says_is_in_its_log_with_where_it_came_from(fleet):
    report = Report.objects.create(kind="say")
    report.start()

    ran(report)

    found = {(line.stream, line.level, line.message) for line in report.logs.all()}
    assert found >= {
        ("log", "debug", "said"),
        ("logging", "warning", "recorded 1"),
        ("stdout", "info", "printed"),
        ("stderr", "warning", "on the other"),
        ("stdout", "info", "by a program"),
    }
    numbers = [line.sequence for line in report.logs.all()]
    assert numbers == list(range(1, len(numbers) + 1))


@whatever_broker
def test_progress_is_stored_while_it_runs(fleet):
    report = Report.objects.create(kind="progress", given={"total": 50})
    report.start()

    ran(report)

    assert report.progress_data["current"] == report.progress_data["total"] == 50


def test_a_failure_is_told_with_its_traceback(fleet):
    report = Report.objects.create(kind="fail")
    report.start()

    ran(report)

    assert (report.status, report.error) == ("failed", "It goes wrong.")
    assert "do_fail" in report.history[-1]["traceback"]
    assert said(report, level="error") == ["It goes wrong."]


def test_what_has_failed_is_started_again(fleet):
    report = Report.objects.create(kind="exit")
    report.start()
    assert ran(report).status == "failed"
    report.kind = "well"
    report.save()

    report.start()

    assert ran(report).status == "succeeded"
    assert (report.run_number, report.attempts, report.error) == (2, 2, "")


def test_attempts_remain_until_one_goes_well(fleet):
    report = Stubborn.objects.create(kind="second_time")
    report.start()

    assert ran(report).status == "succeeded"
    assert [entry["status"] for entry in report.history] == ["pending", "succeeded"]


@whatever_broker
def test_a_process_that_vanishes_has_failed_and_says_how(fleet):
    report = Report.objects.create(kind="vanish")
    report.start()

    ran(report)

    assert report.status == "failed"
    assert "exited with status 3" in report.error
    assert "Before." in said(report)


def test_a_timeout_climbs_every_rung_and_nothing_is_left(fleet):
    """As in the issue: it ignores SIGTERM, has grandchildren, and neighbours."""
    neighbour = begun()
    report = Report.objects.create(kind="stay", timeout=timedelta(seconds=4))
    report.start()
    near = int(says(report, "near")[0].split()[1])
    far = int(says(report, "far")[0].split()[1])
    report.refresh_from_db()
    leader = report.worker_pid

    ran(report)

    assert not any(map(is_running, (leader, near, far)))
    assert report.status == "timed_out"
    assert report.error == "It ran longer than its timeout of 4 seconds."
    rungs = [s.split()[0] for s in said(report) if "to process group" in s]
    assert rungs == ["SIGTERM", "SIGTERM", "SIGKILL"]
    assert said(report)[-1] == report.error
    assert "3 signals, with SIGKILL" in said(report)[-2]
    assert "do_stay" in report.history[-1]["traceback"]
    neighbour.refresh_from_db()
    assert neighbour.status == "running"
    assert is_running(neighbour.worker_pid)


@whatever_broker
def test_what_comes_to_an_end_after_it_was_told_to_stop_has_timed_out(fleet):
    report = Report.objects.create(kind="swallow", timeout=SOON)
    report.start()

    assert ran(report).status == "timed_out"


def test_a_long_wait_in_the_queue_does_not_shorten_the_time(fleet):
    """The clock is the run's own, and a watchdog of the start would have fired."""
    report = Report.objects.create(timeout=SOON)
    fleet.runs.send(signal.SIGSTOP)
    try:
        report.start()
        waited = time.monotonic() + 1.5
        eventually(lambda: time.monotonic() > waited)
        report.refresh_from_db()
        assert report.status == "pending"
    finally:
        fleet.runs.send(signal.SIGCONT)

    assert ran(report).status == "succeeded"


def test_a_cancel_returns_at_once_and_is_told_when_the_code_is_dead(fleet):
    report = begun()
    leader = report.worker_pid

    began = time.monotonic()
    report.cancel()
    took = time.monotonic() - began
    status = report.status

    assert ran(report).status == "cancelled"
    assert status == "running"
    assert took < 0.5
    assert not is_running(leader)
    assert "Cleaning up." in said(report)
    assert "Cancel was asked for." in said(report)


@whatever_broker
def test_a_cancel_that_no_worker_has_heard_is_seen_in_the_row(fleet, here):
    report = begun()
    # As if it had been said to nobody.
    here.conf.control_exchange = here.control.mailbox.namespace = "nobody"

    report.cancel()

    assert ran(report).status == "cancelled"


def test_one_that_waits_is_cancelled_and_never_runs(fleet):
    report = Report.objects.create()
    fleet.runs.send(signal.SIGSTOP)
    try:
        report.start()
        report.cancel()
    finally:
        fleet.runs.send(signal.SIGCONT)
    other = Report.objects.create()
    other.start()

    ran(other)

    report.refresh_from_db()
    assert report.status == "cancelled"
    assert said(report) == ["Cancelled before it ran."]


def test_a_start_is_sent_at_its_commit_and_not_at_all_after_a_rollback(fleet):
    report, other = Report.objects.create(), Report.objects.create()
    with transaction.atomic():
        report.start()
        transaction.set_rollback(True)
    with transaction.atomic():
        other.start()
        assert other.wait(timeout=0.3) is None

    ran(other)

    report.refresh_from_db()
    assert (report.status, report.queued) == ("pending", None)
    assert said(report) == []
    report.start()
    assert ran(report).status == "succeeded"


def test_a_broker_that_is_away_takes_a_start_back_and_says_so(fleet):
    from windlass.contrib.celery import BrokerAway

    report = Report.objects.create()
    away = f"{fleet.celery['broker_url'].partition(':')[0]}://localhost:9"
    Celery("away", set_as_current=True).conf.broker_url = away

    with pytest.raises(BrokerAway, match=r"localhost:9.*does not answer"):
        report.start()

    report.refresh_from_db()
    assert (report.status, report.queued) == ("pending", None)
    assert report.celery_task_id == ""
    assert "does not answer" in said(report)[0]


@whatever_broker
def test_a_killed_process_of_the_pool_takes_its_run_along_which_has_failed(fleet):
    report = begun()
    supervision = int(report.run_token.split(".")[2])

    kill(supervision)

    assert ran(report).status == "failed"
    assert "is gone" in report.error
    assert not is_running(report.history[-1]["pid"])


def test_a_killed_process_of_the_pool_is_found_with_nobody_waiting(fleet):
    report = begun(cls=Stubborn)

    kill(int(report.run_token.split(".")[2]))

    eventually(lambda: Report.objects.get(pk=report.pk).attempts == 2)
    report.cancel()
    assert ran(report).status == "cancelled"
    assert [entry["status"] for entry in report.history] == ["pending", "cancelled"]


@whatever_broker
def test_a_killed_run_has_failed_at_once(fleet):
    report = begun()

    kill(report.worker_pid)

    assert ran(report).status == "failed"
    assert "was killed by signal 9" in report.error


def test_a_message_that_comes_twice_runs_nothing(fleet):
    from windlass.contrib.celery.tasks import run

    report = begun("linger", "Lingering.")
    again = ("processes.Report", str(report.pk), "default", 1, 1, 0)
    queue = fleet.processes["QUEUE"]
    run.apply_async((report._meta.label, *again[1:]), queue=queue)
    other = Report.objects.create()
    other.start()
    ran(other)
    report.log("go on")

    assert ran(report).status == "succeeded"
    run.apply_async((report._meta.label, *again[1:]), queue=queue)
    other.restart()
    ran(other)
    report.refresh_from_db()
    assert (report.attempts, said(report).count("Started.")) == (1, 1)


@whatever_broker
def test_a_watchdog_of_an_earlier_start_leaves_the_next_alone(fleet):
    from windlass.contrib.celery import watching

    report = begun()
    earlier = report.run_token
    report.cancel()
    ran(report)
    report.restart()
    eventually(lambda: said(report).count("Waiting.") == 2)
    report.refresh_from_db()

    watching.watch(report, earlier, is_late=True)

    assert is_running(report.worker_pid)


@whatever_broker
def test_a_watchdog_kills_what_its_supervision_does_not(fleet):
    from windlass.contrib.celery import watching

    report = begun(timeout=SOON + SOON)
    supervision = int(report.run_token.split(".")[2])
    kill(supervision, signal.SIGSTOP)
    try:
        watching.watch(report, report.run_token, is_late=True)
        eventually(lambda: not is_running(report.worker_pid))
        ran(report)
    finally:
        kill(supervision, signal.SIGCONT)

    assert report.status in ("timed_out", "failed")
    assert any("watchdog fired" in text for text in said(report))
    assert parent(supervision) == fleet.runs.pid
    other = Report.objects.create()
    other.start()
    assert ran(other).status == "succeeded"


def test_a_watchdog_on_another_host_asks_there(fleet, monkeypatch):
    from windlass.contrib.celery import watching

    report = begun()
    monkeypatch.setattr(watching, "scope", lambda: "elsewhere")
    token = watching.Token.read(report.run_token)

    assert watching.look(report, token) == (True, True)
    watching.watch(report, report.run_token, is_late=True)

    eventually(lambda: not is_running(report.worker_pid))
    monkeypatch.undo()
    assert ran(report).status == "failed"


@whatever_broker
def test_a_host_that_gives_no_answer_is_lost(fleet):
    from windlass.contrib.celery import watching
    from windlass.processes import moves

    report = Report.objects.create()
    token = "00000000.nowhere.4.5.6"
    moves.begin(report, token, pid=7)

    watching.watch(report, token, is_doubtful=True, silent=watching.QUESTIONS - 1)

    report.refresh_from_db()
    assert report.status == "failed"
    assert "counts as lost" in report.error


@pytest.fixture
def another(fleet, settings):
    """Start one more worker, which gets what is started from then on."""

    def another(name, *arguments):
        queue = f"{fleet.processes['QUEUE']}-{name}"
        settings.WINDLASS_PROCESSES = {**fleet.processes, "QUEUE": queue}
        return fleet.worker(queue, name, *arguments)

    return another


@whatever_broker
def test_a_worker_that_stops_waits_for_what_it_runs(fleet, another):
    more = another("more", "-c", "1")
    report = begun("linger", "Lingering.")

    more.send(signal.SIGTERM)
    report.log("go on")

    assert ran(report).status == "succeeded"
    more.wait()
    eventually(lambda: not more.processes())


@whatever_broker
def test_a_worker_that_is_told_to_leave_what_it_runs_ends_it(fleet, another):
    more = another("left", "-c", "1")
    report = begun()

    more.send(signal.SIGQUIT)

    assert ran(report).status == "failed"
    assert not is_running(report.history[-1]["pid"])


@whatever_broker
@pytest.mark.parametrize("is_whole", [True, False])
def test_a_worker_that_is_killed_takes_its_runs_along(fleet, another, is_whole):
    more = another(f"killed-{is_whole}", "-c", "1")
    report = begun("stay", "far")
    far = int(says(report, "far")[0].split()[1])

    more.send_to_group(signal.SIGKILL) if is_whole else more.send(signal.SIGKILL)

    assert ran(report).status == "failed"
    assert "is gone" in report.error
    eventually(lambda: not is_running(far))


@whatever_broker
@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_other_pools_run_processes_as_well(fleet, another, pool):
    another(pool, "-P", pool, "-c", "2")
    report = begun("stay", "near", timeout=timedelta(seconds=3))

    assert ran(report).status == "timed_out"
    assert not is_running(report.history[-1]["pid"])


@whatever_broker
def test_an_interpreter_of_its_own_executes_a_run_where_that_is_wanted(fleet, another):
    fleet.processes["EXECUTOR"] = "spawn"
    try:
        another("spawning", "-c", "1")
    finally:
        del fleet.processes["EXECUTOR"]
    report = begun("stay", "near", timeout=timedelta(seconds=4))
    far = int(says(report, "far")[0].split()[1])

    assert ran(report).status == "timed_out"
    assert not is_running(far)
    failing = Report.objects.create(kind="fail")
    failing.start()
    assert (ran(failing).status, failing.error) == ("failed", "It goes wrong.")
