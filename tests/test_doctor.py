"""The doctor: what it finds, what it advises, and that it never falls over."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

import windlass
from tests.servers import PgBouncer, private
from windlass import db
from windlass.db import diagnosis
from windlass.models import Node, Schedule

pytestmark = pytest.mark.django_db(transaction=True)


def examined(*arguments):
    """Run the doctor; give back its exit code and its findings by check."""
    out, code = StringIO(), 0
    try:
        call_command("windlass_doctor", "--json", *arguments, stdout=out)
    except SystemExit as ended:
        code = ended.code
    said = json.loads(out.getvalue())
    assert said["ok"] is (code == 0)
    found = {}
    for finding in said["findings"]:
        found.setdefault(finding["check"], []).append(finding)
        if finding["level"] != "ok":
            assert finding["do"]
    return code, found


def levels(found, check):
    return [finding["level"] for finding in found[check]]


@pytest.fixture
def live_nodes():
    """A worker that serves everything and a dispatcher, both alive."""

    def nodes(version=None):
        now = db.dialect("default").now()
        for number, kind in enumerate(Node.Kind.values, start=1):
            Node.objects.create(
                id=number,
                kind=kind,
                backend_alias="default",
                name=kind,
                host="here",
                pid=number,
                started_at=now,
                heartbeat_at=now,
                version=version or windlass.__version__,
                details={"queues": ["*"], "turned_ago": 0.0},
            )

    return nodes


def test_all_is_well_with_a_runtime(live_nodes):
    live_nodes()

    code, found = examined()

    problems = [f for each in found.values() for f in each if f["level"] == "problem"]
    assert (code, problems) == (0, [])
    for check in ("database", "pooler", "clock", "nodes", "versions", "lanes"):
        assert levels(found, check) == ["ok"]
    assert connection.display_name in found["database"][0]["says"]
    if connection.vendor == "postgresql":
        assert {"snapshots", "tables"} <= found.keys()


def test_without_a_runtime_it_says_how_to_start_one():
    code, found = examined()

    assert code == 1
    assert "Start manage.py windlass" in found["nodes"][0]["says"]


def test_a_node_of_another_version_is_a_warning(live_nodes):
    live_nodes(version="0.0.1")

    code, found = examined()

    assert code == 0
    assert levels(found, "versions") == ["warning"]
    assert "0.0.1" in found["versions"][0]["says"]


def test_a_check_that_fails_says_so_and_the_others_are_made(live_nodes, monkeypatch):
    live_nodes()

    def fails(dialect):
        raise ValueError("no such thing")

    monkeypatch.setattr(diagnosis, "settings", fails)

    code, found = examined()

    assert code == 1
    assert "ValueError: no such thing" in found["settings"][0]["says"]
    assert levels(found, "nodes") == ["ok"]


def test_wrong_options_are_a_finding_with_their_path(settings):
    entry = {**settings.TASKS["default"], "OPTIONS": {"thread": 3}}
    settings.TASKS = {"default": entry}

    code, found = examined()

    assert code == 1
    assert 'TASKS["default"]["OPTIONS"]["thread"]' in found["options"][0]["says"]


def test_a_backend_that_is_not_there_is_refused():
    with pytest.raises(CommandError) as refused:
        call_command("windlass_doctor", "--backend", "nowhere")

    assert refused.value.returncode == 2


def test_a_schedule_that_should_have_fired_is_a_problem(live_nodes):
    live_nodes()
    now = db.dialect("default").now()
    for key, late in (("late", 3600), ("soon", -3600)):
        Schedule.objects.create(
            backend_alias="default",
            key=key,
            task_path="tests.tasks.add",
            schedule="* * * * *",
            overlap=Schedule.Overlap.ALLOW,
            missed=Schedule.Missed.LATEST,
            is_static=False,
            next_due_at=now - timedelta(seconds=late),
            last_error="ImportError: no such task" if key == "soon" else "",
        )

    code, found = examined()

    assert code == 1
    assert levels(found, "schedules") == ["problem", "warning"]
    assert found["schedules"][0]["says"].startswith("1 schedules were due")
    assert "soon: ImportError" in found["schedules"][1]["says"]


@pytest.mark.skipif(
    connection.vendor != "postgresql" or not PgBouncer.exists(),
    reason="needs PostgreSQL and pgbouncer",
)
def test_a_pooler_is_a_warning(live_nodes, monkeypatch):
    live_nodes()
    with private(PgBouncer) as pooler:
        connection.close()
        monkeypatch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
        monkeypatch.setitem(connection.settings_dict, "PORT", str(pooler.port))

        code, found = examined()
        connection.close()

    assert code == 0
    assert levels(found, "pooler") == ["warning"]
    assert "polling" in found["pooler"][0]["says"]


def test_it_reads_as_text():
    out = StringIO()

    with pytest.raises(SystemExit):
        call_command("windlass_doctor", stdout=out)

    assert "problem  nodes: No node of the backend 'default'" in out.getvalue()
