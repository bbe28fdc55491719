"""The Celery backend without a worker: its eager mode, its checks, its guards."""

import subprocess
import sys
from datetime import timedelta

import pytest
from django.db import transaction
from django.test import override_settings
from django.utils import timezone

from tests.contrib.fleet import Celery
from tests.integration.runtime import ROOT
from tests.processes.models import Report
from tests.processes.test_runtime import said
from windlass.exceptions import ConfigurationError
from windlass.jobs.retries import Retry, Snooze
from windlass.processes import checks, conf, moves
from windlass.runtime import identity

OWN = {"BACKEND": "windlass.contrib.celery.CeleryBackend"}
WITH_APP = [
    *("django.contrib.auth", "django.contrib.contenttypes", "windlass"),
    *("windlass.processes", "windlass.contrib.celery", "tests.processes"),
]


@pytest.fixture
def app(settings):
    """A Celery app that is this process's, with nothing behind it."""
    settings.WINDLASS_PROCESSES = OWN
    app = Celery("tests.contrib", set_as_current=True)
    yield app
    app.close()


@pytest.fixture
def eager(app, committed):
    app.conf.task_always_eager = True
    yield app
    Report.objects.all().delete()


def test_a_broker_that_celery_cannot_talk_to_takes_a_start_back(app, committed):
    """As one for whose transport a package is missing."""
    app.conf.broker_url = "nothing://localhost"
    report = Report.objects.create()

    with pytest.raises(KeyError, match="No such transport"):
        report.start()

    report.refresh_from_db()
    assert (report.status, report.queued) == ("pending", None)
    assert report.celery_task_id == ""
    (found,) = [each for each in checks.check_processes() if "nothing" in each.msg]
    assert found.id == "windlass.celery.E002"
    report.delete()


# The eager mode


def test_an_eager_start_runs_to_the_end(eager):
    report = Report.objects.create(kind="say")

    assert report.start()

    assert report.status == "succeeded"
    assert "said" in said(report)
    assert report.celery_task_id


def test_an_eager_failure_is_in_the_row_and_raised_where_celery_would(eager):
    report, other = (Report.objects.create(kind="fail") for _ in range(2))

    report.start()
    eager.conf.task_eager_propagates = True
    with pytest.raises(ValueError, match="It goes wrong"):
        other.start()

    for each in (report, other):
        each.refresh_from_db()
        assert (each.status, each.error) == ("failed", "It goes wrong.")


def test_an_eager_process_that_was_cancelled_runs_nothing(eager):
    report = Report.objects.create()
    report.cancel()

    with pytest.raises(RuntimeError, match="cancelled"):
        report.start()

    assert said(report) == ["Cancelled before it ran."]


# What can be found before anything runs


def found(app, installed=WITH_APP, **processes):
    given = {**OWN, **processes}
    with override_settings(WINDLASS_PROCESSES=given, INSTALLED_APPS=installed):
        return {each.id for each in checks.check_processes()}


@pytest.fixture
def of_celery(app):
    return lambda *given, **more: {
        id for id in found(app, *given, **more) if id.startswith("windlass.celery")
    }


def test_the_checks_find_what_cannot_work(app, of_celery, monkeypatch):
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)
    without = [each for each in WITH_APP if "contrib.celery" not in each]

    assert of_celery() == {"windlass.celery.E002"}
    app.conf.broker_url = "memory://"
    assert of_celery() == set()
    assert of_celery(without) == {"windlass.celery.E001"}
    assert of_celery(SUPERVISOR_QUEUE="processes") == {"windlass.celery.W001"}


def test_the_checks_find_a_queue_that_celery_does_not_know(app, of_celery):
    app.conf.update(broker_url="memory://", task_create_missing_queues=False)

    assert of_celery() == {"windlass.celery.E003"}


def test_without_celery_the_error_says_what_to_install():
    """In another interpreter, where it cannot be imported."""
    code = (
        "import sys; sys.modules['celery'] = None\n"
        "from django.conf import settings\n"
        "import windlass.contrib.celery as own\n"
        "own.CeleryBackend"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )

    assert "pip install 'windlass[celery]'" in done.stderr


def test_the_app_is_there_without_celery_and_the_setting_says_what_is_missing():
    code = (
        "import sys; sys.modules['celery'] = None\n"
        "import django; from django.conf import settings\n"
        "settings.configure(INSTALLED_APPS=['windlass', 'windlass.processes',"
        " 'windlass.contrib.celery'], WINDLASS_PROCESSES="
        "{'BACKEND': 'windlass.contrib.celery.CeleryBackend'})\n"
        "django.setup()\n"
        "from windlass.processes import conf; conf.backend()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )

    assert ConfigurationError.__name__ in done.stderr
    assert "pip install 'windlass[celery]'" in done.stderr


# A backend of one's own


class ThreeMethods:
    """All that the documentation asks for."""

    killed = []

    def dispatch(self, process):
        return "task", "watchdog"

    def kill(self, task_id):
        self.killed.append(task_id)

    def revoke_scheduled(self, task_id):
        self.killed.append(task_id)


@pytest.fixture
def three(settings, committed):
    path = f"{__name__}.ThreeMethods"
    settings.WINDLASS_PROCESSES = {"BACKEND": path}
    ThreeMethods.killed.clear()
    yield
    Report.objects.all().delete()


def test_a_backend_needs_its_three_methods_only(three):
    assert not {each.id for each in checks.check_processes()} & {
        "windlass.processes.E002",
        "windlass.processes.E003",
    }
    waiting, running = Report.objects.create(), Report.objects.create()
    for report in (waiting, running):
        report.start()
        assert (report.celery_task_id, report.watchdog_task_id) == ("task", "watchdog")
    assert running.wait(timeout=1.2) is None
    assert running.mark_running()

    waiting.cancel()
    running.cancel()

    assert {waiting.status, running.status} == {"cancelled"}
    assert ThreeMethods.killed == ["task", "watchdog"] * 2


# Guards


def test_an_attempt_is_known_by_its_processes():
    import os

    from windlass.contrib.celery.tokens import Token, scope

    token = Token.make(os.getpid())

    assert Token.read(str(token)) == Token.read(f"{token}!") == token
    assert (token.scope, token.supervisor) == (scope(), os.getpid())
    assert token.leader_start == identity.process_start(os.getpid())
    longest = token._replace(supervisor=1 << 22, supervisor_start=10**11)
    assert len(f"{longest._replace(leader_start=10**11)}!") <= 64
    assert Token.read("marked") is None
    assert Token.read("018f-5/3") is None


def test_what_follows_an_attempt():
    from windlass.contrib.celery import retrying

    def after(error):
        return retrying.following(2, retrying.wish(error))

    assert after(Snooze(5)) == (2, 5)
    assert after(Retry(7)) == (3, 7)
    assert after(Retry()).attempt == after(ValueError()).attempt == 3
    assert 0 <= after(ValueError()).delay <= 2


def test_a_number_that_belongs_to_another_process_is_not_killed():
    from windlass.contrib.celery import watching

    child = subprocess.Popen(["sleep", "100"], start_new_session=True)
    try:
        started = identity.process_start(child.pid)
        assert not watching.kill(child.pid, started + 1)
        assert not watching.kill(0, 0)
        assert child.poll() is None
        assert watching.kill(child.pid, started)
        assert child.wait() == -9
    finally:
        child.kill()
        child.wait()


@pytest.fixture
def sent(app, committed):
    """What is sent: to a broker in this process's memory."""
    app.conf.update(broker_url="memory://", task_create_missing_queues=True)

    def sent(queue):
        with app.connection_for_read() as connection:
            with connection.SimpleQueue(queue) as messages:
                found = []
                while messages.qsize():
                    message = messages.get_nowait()
                    message.ack()
                    found.append(message)
                return found

    sent("processes"), sent("supervisor")
    yield sent
    Report.objects.all().delete()


def test_a_message_names_the_start_and_has_limits_of_its_own(sent):
    report = Report.objects.create(timeout=timedelta(hours=5))
    with transaction.atomic():
        id = report.start()
        assert sent("processes") == []

    (message,) = sent("processes")

    assert message.headers["id"] == id
    assert message.payload[0] == [
        *("processes.Report", str(report.pk), "default"),
        *(1, 1, 0),
    ]
    soft, hard = message.headers["timelimit"][::-1]
    assert 5 * 3600 < soft < hard
    assert message.content_type == "application/json"


def test_a_long_delay_is_several_messages(sent):
    from windlass.contrib.celery import sending
    from windlass.contrib.celery.tasks import run

    report = Report.objects.create()
    report.start()
    sent("processes")
    hour_ago = timezone.now() - timedelta(hours=1, seconds=1)
    moves.rows(report).update(modified=hour_ago)
    sending.send_run(report, delay=4000)
    (message,) = sent("processes")
    arguments, named, _more = message.payload

    run(*arguments, **named)

    (again,) = sent("processes")
    assert again.payload[0] == arguments
    assert again.payload[1]["not_before"] == pytest.approx(named["not_before"], abs=5)
    report.refresh_from_db()
    assert (report.status, report.attempts) == ("pending", 0)
    assert report.modified > hour_ago


def test_a_message_that_got_lost_is_sent_again_after_an_hour(sent):
    from windlass.contrib.celery import watching

    report, other = Report.objects.create(), Report.objects.create()
    for each in (report, other):
        each.start()
    sent("processes")
    hour_ago = timezone.now() - timedelta(hours=1, seconds=1)
    moves.rows(report).update(modified=hour_ago)

    watching.sweep()
    watching.sweep()

    (message,) = sent("processes")
    assert message.headers["id"] == report.celery_task_id


def test_a_run_that_does_not_beat_is_looked_at(sent):
    from windlass.contrib.celery import watching

    report = Report.objects.create()
    report.start()
    token = "00000000.nowhere.4.5.6"
    moves.begin(report, token, pid=7)
    watching.sweep()
    assert sent("supervisor") == []
    long_ago = timezone.now() - timedelta(seconds=watching.STALE + 1)
    moves.rows(report).update(modified=long_ago)

    watching.sweep()

    (message,) = sent("supervisor")
    assert message.payload[0][-1] == token
    assert message.payload[1] == {"is_single": True}


def test_a_run_that_is_dead_is_ended_though_its_supervision_is_not(sent):
    """It died between its claim and its first line, say, and beats for nobody."""
    from windlass.contrib.celery import watching

    report = Report.objects.create()
    report.start()
    child = subprocess.Popen(["true"])
    token = watching.Token.make(child.pid)
    child.wait()
    moves.begin(report, str(token), pid=child.pid)

    watching.watch(report, str(token))
    assert report.status == "running"
    long_ago = timezone.now() - timedelta(seconds=watching.STALE + 1)
    moves.rows(report).update(modified=long_ago)
    report.refresh_from_db()
    watching.watch(report, str(token))

    report.refresh_from_db()
    assert report.status == "failed"
    assert "is gone" in report.error


def test_what_is_cancelled_is_told_to_the_row_where_the_run_cannot_overtake_it(sent):
    report = Report.objects.create()
    report.start()
    token = "00000000.nowhere.4.5.6"
    moves.begin(report, token, pid=7)

    report.cancel()

    assert not moves.end(report, moves.holds(token), moves.SUCCEEDED)
    assert report.status == "running"
    (message,) = sent("supervisor")
    assert message.payload[1] == {"is_late": True}
    conf.backend().kill(report.celery_task_id)
    report.refresh_from_db()
    assert report.run_token == f"{token}!"
