"""``manage.py windlass_logs``."""

import json

import pytest
from django.core.management import CommandError, call_command

from tests import tasks
from tests.processes.models import Report
from tests.running import run_one
from windlass import api
from windlass.management import job_lines
from windlass.models import Job, LiveJob

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
        (("processes.Report",), 2, "no id of a job"),
        (("00000000-0000-7000-8000-000000000000",), 1, "There is no job"),
        (("processes.Report", "1", "--grep", "("), 2, "--grep"),
        (("processes.Report", "1", "--since", "soon"), 2, "--since"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, code, said):
    with pytest.raises(CommandError, match=said) as raised:
        call_command("windlass_logs", *arguments)

    assert raised.value.returncode == code


# Jobs


def run_again(result):
    """Let its time come, and run it."""
    row = LiveJob.objects.get(pk=result.id)
    LiveJob.objects.filter(pk=row.pk).update(available_at=row.enqueued_at)
    run_one()


def test_a_job_of_a_process_shows_the_log_of_that(capsys):
    report = Report.objects.create()
    id = report.start()
    report.log("from outside")

    (line,) = shown(capsys, id)

    assert line.endswith("from outside")


def test_of_a_job_it_shows_the_attempts_and_their_tracebacks(capsys):
    result = tasks.stubborn.enqueue()
    run_one()
    run_again(result)

    lines = "\n".join(shown(capsys, result.id))
    said = [json.loads(line) for line in shown(capsys, result.id, "--json")]

    assert "Enqueued on the queue default: " in lines
    assert "ValueError" in lines
    assert [each["sequence"] for each in said] == list(range(1, len(said) + 1))
    first = [each for each in said if each["attempt"] == 1]
    assert [each["level"] for each in first] == ["info", "error", "warning"]
    assert "ValueError" in first[1]["message"]
    assert {each["attempt"] for each in said} == {0, 1, 2}


def test_lines_of_a_job_are_filtered_as_those_of_a_process(capsys):
    result = tasks.add.enqueue(1, 2)
    run_one()

    assert len(shown(capsys, result.id)) == 3
    assert "has succeeded" in shown(capsys, result.id, "--grep", "has")[0]
    assert len(shown(capsys, result.id, "--attempt", "1", "--since", "1h")) == 2
    assert not shown(capsys, result.id, "--grep", "nothing of it")


def test_a_job_is_followed_through_its_attempts_to_its_end(monkeypatch):
    result = tasks.stubborn.enqueue()
    moves = iter([lambda: run_one(), lambda: run_again(result)])

    def moved(*given, **more):
        """What happens while one waits."""
        next(moves, lambda: api.cancel_job(result.id))()

    monkeypatch.setattr(api, "wait_for_completion", moved)
    job = job_lines.find(result.id, None)

    found = list(job_lines.lines(job, follow=True))

    assert [line.sequence for line in found] == list(range(1, len(found) + 1))
    ends = [line.message for line in found if line.level == "warning"]
    assert [line.message.splitlines()[0] for line in found] == [
        f"Enqueued on the queue default: {job.name}.",
        "Attempt 1 began.",
        "Traceback (most recent call last):",
        ends[0],
        "Attempt 2 began.",
        "Traceback (most recent call last):",
        ends[1],
        "The job was cancelled (cancelled).",
    ]
    assert ends[0].startswith("Attempt 1 ended on ")
    assert ends[0].endswith(": error.")


def test_a_job_that_is_deleted_is_followed_no_more():
    result = tasks.add.enqueue(1, 2)
    following = job_lines.lines(Job.objects.get(pk=result.id), follow=True)
    assert next(following).message.startswith("Enqueued")

    LiveJob.objects.filter(pk=result.id).delete()

    assert not list(following)
