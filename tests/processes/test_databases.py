"""Processes whose tables are on another database than that of the jobs."""

import json
import logging
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connections

from tests.integration.runtime import once_in_all
from tests.processes.models import Export, ExportLog, Report, ReportLog
from tests.processes.test_runtime import OPTIONS
from windlass import conf
from windlass.models import Job, LiveJob
from windlass.processes import settling

ENTRY = {
    "ENGINE": "django.db.backends.sqlite3",
    "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
}


@pytest.fixture
def empty(committed, tmp_path, monkeypatch):
    """A second database, ``other``, without tables."""
    entry = {**ENTRY, "NAME": str(tmp_path / "other.sqlite3")}
    given = {"default": dict(ENTRY), "other": dict(entry)}
    made = connections.configure_settings(given)["other"]
    monkeypatch.setitem(connections.settings, "other", made)
    yield entry
    connections["other"].close()
    del connections["other"]


@pytest.fixture
def other(empty):
    """A second database with the tables of reports."""
    make_tables()
    return empty


def make_tables():
    with connections["other"].schema_editor() as editor:
        editor.create_model(Report)
        editor.create_model(ReportLog)


@pytest.fixture
def runtime(start, other):
    def begin(**processes):
        more = {"WINDLASS_TEST_PROCESSES": json.dumps(processes)}
        more["WINDLASS_TEST_OTHER"] = json.dumps(other)
        return start(options=OPTIONS, **more)

    return begin


def create(**given):
    return Report.objects.using("other").create(**given)


def said(report):
    return [line.message for line in report.tail()]


@pytest.mark.parametrize("executor", ["fork", "spawn"])
def test_a_process_there_is_run_and_logged_there(runtime, executor, capsys):
    runtime(EXECUTOR=executor)
    report = create(kind="say")
    id = report.start()

    assert report.wait(60) == "succeeded", said(report)
    report.log("from outside")

    found = said(report)
    assert found[-2:] == ["Finished.", "from outside"]
    spoken = {"Started.", "said", "recorded 1", "printed", "by a program"}
    assert spoken <= set(found)
    assert report.paginate_logs(per_page=10).paginator.count == len(found)
    assert [line.message for line in report.stream()] == found
    assert not Report.objects.filter(pk=report.pk, kind="say").exists()
    call_command("windlass_logs", id)
    by_job = capsys.readouterr().out
    call_command("windlass_logs", "processes.Report", report.pk, "--database", "other")
    assert capsys.readouterr().out == by_job
    assert len(by_job.splitlines()) >= len(found)


@once_in_all
def test_a_process_there_is_followed_and_cancelled(runtime):
    runtime()
    report = create(kind="wait")
    report.start()

    lines = []
    for each in report.stream():
        lines.append(each.message)
        if each.message == "Waiting.":
            report.cancel()

    assert report.wait(60) == "cancelled"
    assert lines[:2] == ["Started.", "Waiting."]
    assert "Cleaning up." in lines


@once_in_all
def test_many_writers_there_number_their_lines_together(runtime):
    runtime()
    given = {"threads": [2, 2], "lines": 300}
    report = create(kind="crowd", given=given)
    report.start()

    assert report.wait(60) == "succeeded", said(report)
    numbers = report.logs.order_by("sequence").values_list("sequence", flat=True)
    assert list(numbers) == list(range(1, 1_203))


def test_a_process_there_is_executed_by_its_caller(other):
    report = create(kind="roll_back")

    report.execute()

    assert report.status == "succeeded"
    assert said(report) == ["Started.", "within", "after", "Finished."]


class Elsewhere:
    """Sends reports to the other database."""

    def __init__(self, alias="other"):
        self.alias = alias

    def db_for_read(self, model, **hints):
        return self.alias if model in (Report, ReportLog) else None

    db_for_write = db_for_read


@pytest.fixture
def exports(committed):
    yield
    ExportLog.objects.all().delete()
    Export.objects.all().delete()


def lose(process):
    """Start it, and throw its job away long ago."""
    process.start()
    LiveJob.objects.filter(pk=process.celery_task_id).delete()
    long_ago = process.queued - timedelta(hours=1)
    rows = type(process).objects.using(process._state.db)
    rows.filter(pk=process.pk).update(queued=long_ago)
    return process


@pytest.mark.parametrize("alias", ["other", "unknown"])
def test_the_sweep_goes_on_where_one_model_cannot_be_looked_at(
    empty, exports, settings, caplog, alias
):
    models = settling.process_models()
    assert models.index(Report) < models.index(Export)
    settings.DATABASE_ROUTERS = [Elsewhere(alias)]
    sweep = settling.Sweep(conf.options("default"))

    with caplog.at_level(logging.WARNING, logger="windlass"):
        for _tick in range(2):
            export = lose(Export.objects.create())
            sweep.tick()
            export.refresh_from_db()
            assert (export.status, export.error) == ("failed", "Its job is gone.")

    # Once, however often it was tried.
    (record,) = caplog.records
    assert "processes.Report cannot be looked for" in record.getMessage()


def test_the_sweep_comes_to_another_database_as_soon_as_it_can(empty, settings, caplog):
    settings.DATABASE_ROUTERS = [Elsewhere()]
    sweep = settling.Sweep(conf.options("default"))
    sweep.tick()
    make_tables()
    report = lose(Report.objects.create())

    sweep.tick()

    report.refresh_from_db()
    assert (report._state.db, report.status) == ("other", "failed")
    assert not sweep._refused
    assert not Job.objects.filter(pk=report.celery_task_id).exists()
