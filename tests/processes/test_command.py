"""``manage.py windlass_logs``."""

import json

import pytest
from django.core.management import CommandError, call_command

from tests.processes.models import Report

pytestmark = pytest.mark.django_db


@pytest.fixture
def report():
    report = Report.objects.create(kind="count", given={"lines": 12})
    report.execute()
    return report


def shown(capsys, *arguments):
    call_command("windlass_logs", *arguments)
    return capsys.readouterr().out.splitlines()


def test_it_shows_all_lines_in_order(capsys, report):
    lines = shown(capsys, "processes.Report", report.pk)

    assert len(lines) == 14
    assert lines[0].split()[0] == "1"
    assert lines[0].endswith("Started.")
    assert "line 11" in lines[12]


def test_it_shows_what_is_asked_for(capsys, report):
    arguments = ("processes.Report", str(report.pk))

    lines = shown(capsys, *arguments, "--grep", "line 1.", "--json", "--since", "1h")

    said = [json.loads(line) for line in lines]
    assert [each["message"] for each in said] == ["line 10", "line 11"]
    assert said[0]["attempt"] == 1
    assert not shown(capsys, *arguments, "--attempt", "2")


def test_it_follows_to_the_end(capsys, report):
    assert len(shown(capsys, "processes.Report", report.pk, "--follow")) == 14


def test_a_log_does_nothing_to_the_terminal(capsys, report):
    report.log("\x1b[2J gone")

    assert "\x1b" not in shown(capsys, "processes.Report", report.pk)[-1]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("processes.Nothing", "1"), 2, "MODEL"),
        (("auth.User", "1"), 2, "not a BaseProcess"),
        (("processes.Report", "x"), 2, "no key"),
        (("processes.Report", "0"), 1, "There is no"),
        (("processes.Report", "1", "--grep", "("), 2, "--grep"),
        (("processes.Report", "1", "--since", "soon"), 2, "--since"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, code, said):
    with pytest.raises(CommandError, match=said) as raised:
        call_command("windlass_logs", *arguments)

    assert raised.value.returncode == code
