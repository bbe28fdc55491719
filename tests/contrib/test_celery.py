"""Processes on real workers of Celery, with Redis and with RabbitMQ."""

import pytest

from tests.contrib.fleet import fleet as make_fleet
from tests.integration.runtime import is_running, kill, once_in_all
from tests.processes.models import Report, Stubborn
from tests.processes.test_runtime import ran, said, says

pytest.importorskip("celery")
pytestmark = once_in_all


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def fleet(request, django_db_setup, django_db_blocker, tmp_path_factory):
    with django_db_blocker.unblock():
        with make_fleet(request.param, tmp_path_factory.mktemp("fleet")) as found:
            yield found


@pytest.fixture(autouse=True)
def here(fleet, committed, settings):
    """This process, as another of the project: the one that starts processes."""
    from celery import Celery

    app = Celery("tests.contrib", set_as_current=True)
    app.conf.update(fleet.celery)
    settings.WINDLASS_PROCESSES = fleet.processes
    Report.objects.all().delete()
    yield app
    app.close()
    Report.objects.all().delete()


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
