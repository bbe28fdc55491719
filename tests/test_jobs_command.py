"""``manage.py windlass_jobs``."""

import json
from contextlib import nullcontext
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command

from tests import tasks
from tests.running import run_one
from windlass import api
from windlass.models import Job

pytestmark = pytest.mark.django_db


def command(capsys, *arguments, code=0):
    expected = pytest.raises(SystemExit, match=f"^{code}$") if code else nullcontext()
    with expected:
        call_command("windlass_jobs", *map(str, arguments))
    return capsys.readouterr()


def failed(count=1, **using):
    results = [tasks.boom.using(**using).enqueue() for _ in range(count)]
    for _ in results:
        run_one()
    return [str(result.id) for result in results]


def states():
    return {str(job.pk): job.state for job in Job.objects.all()}


def test_the_newest_jobs_are_listed_first_as_far_as_they_are_wanted(capsys):
    for number in range(3):
        tasks.add.using(queue_name=f"q{number % 2}").enqueue(number, 1)

    everything = command(capsys, "list").out.splitlines()
    some = command(capsys, "list", "--queue", "q0", "--limit", "1", "--json").out

    assert everything[0].split()[:3] == ["id", "state", "reason"]
    ids = [str(pk) for pk in Job.objects.order_by("-id").values_list("pk", flat=True)]
    assert [line.split()[0] for line in everything[1:]] == ids
    (found,) = map(json.loads, some.splitlines())
    assert (found["id"], found["queue"], found["state"]) == (ids[0], "q0", "ready")


def test_of_what_there_is_none_is_said_so(capsys):
    assert command(capsys, "list", "--state", "failed").out == "None.\n"
    assert command(capsys, "schedules").out == "None.\n"


def test_one_is_shown_with_its_arguments_and_what_went_wrong(capsys):
    (id,) = failed()

    shown = command(capsys, "show", id).out
    found = json.loads(command(capsys, "show", id, "--json").out)

    assert "state            failed" in shown
    assert "args             []" in shown
    assert "Traceback" in shown
    assert found["errors"][0] in shown
    assert found["attempts"] == 1


def test_what_a_task_says_does_nothing_to_the_terminal(capsys):
    result = tasks.add.enqueue("\x1b[2J", "\u009b")

    assert "\x1b" not in command(capsys, "show", result.id).out
    assert "\u009b" not in command(capsys, "show", result.id).out


def test_schedules_are_shown_with_their_next_run_and_paused_ones_last(capsys):
    for key in ("b", "a", "c"):
        api.schedule_recurring_task(key, "tests.tasks.add", "@daily", [1, 2])
    api.pause_recurring_task("a")

    lines = command(capsys, "schedules").out.splitlines()

    assert [line.split()[0] for line in lines] == ["key", "b", "c", "a"]
    assert " -  " in lines[3]
    assert "paused" in lines[3]
    next_run = json.loads(command(capsys, "schedules", "--json").out.splitlines()[0])
    assert next_run["next"]
    assert next_run["task"] == "tests.tasks.add"


def test_those_that_are_named_are_retried_and_it_is_said_why_one_is_not(capsys):
    (id,) = failed()
    ready = str(tasks.add.enqueue(1, 1).id)
    nobody = "01900000-0000-7000-8000-000000000000"

    said = command(capsys, "retry", id, ready, nobody, code=1)

    assert said.out == "Retried 1 job.\n"
    assert f"Job {ready} is ready" in said.err
    assert nobody in said.err
    assert states()[id] == "ready"


def test_filters_choose_and_the_rest_stays(capsys):
    here, there = failed(3, queue_name="here"), failed(2, queue_name="there")

    command(capsys, "retry", "--queue", "here")
    command(capsys, "discard", "--state", "failed", "--task-path", "tests.tasks.boom")

    found = states()
    assert {found[id] for id in here} == {"ready"}
    assert {found[id] for id in there} == {"discarded"}


def test_what_is_cancelled_may_be_retried_if_that_is_asked_for(capsys):
    result = tasks.add.enqueue(1, 1)

    command(capsys, "cancel", result.id, "--reason", "not wanted")
    job = Job.objects.get()
    command(capsys, "retry", "--all")
    left = states()[str(result.id)]
    command(capsys, "retry", "--state", "cancelled")

    assert (job.state, left, states()[str(result.id)]) == (
        "cancelled",
        "cancelled",
        "ready",
    )
    assert "not wanted" in job.errors[0].traceback


def test_what_is_scheduled_runs_now(capsys):
    later = tasks.add.using(run_after=timedelta(days=1))
    ids = [str(later.enqueue(1, 1).id) for _ in range(2)]

    out = command(capsys, "run-now", "--all", "--json").out

    assert json.loads(out) == {"count": 2, "refused": {}, "dry_run": False}
    assert {states()[id] for id in ids} == {"ready"}


def test_a_dry_run_counts_and_moves_nothing(capsys):
    tasks.add.enqueue(1, 1)

    assert command(capsys, "cancel", "--all", "--dry-run").out == (
        "Would cancel 1 job.\n"
    )
    assert set(states().values()) == {"ready"}


def test_older_than_leaves_the_young_alone(capsys):
    tasks.add.enqueue(1, 1)

    assert command(capsys, "list", "--older-than", "1h").out == "None.\n"
    assert command(capsys, "cancel", "--older-than", "1h").out == "Cancelled 0 jobs.\n"


def test_more_than_a_batch_is_moved(capsys, monkeypatch):
    monkeypatch.setattr("windlass.management.job_moves.BATCH", 2)
    for number in range(5):
        tasks.add.enqueue(number, 1)

    assert command(capsys, "cancel", "--all").out == "Cancelled 5 jobs.\n"
    assert set(states().values()) == {"cancelled"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("retry",), "Which jobs?"),
        (("retry", "not-an-id"), "is no id of a job"),
        (("retry", "01900000-0000-7000-8000-000000000000", "--all"), "not by both"),
        (("list", "--limit", "some"), "--limit"),
        (("list", "--older-than", "long"), "--older-than"),
        (("list", "--backend", "none"), "has no such Windlass backend"),
        (("show", "x"), "is no id of a job"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, said):
    with pytest.raises(CommandError, match=said) as refused:
        call_command("windlass_jobs", *arguments)

    assert refused.value.returncode == 2


def test_one_that_is_not_there_is_an_error():
    with pytest.raises(CommandError, match="There is no job"):
        call_command("windlass_jobs", "show", "01900000-0000-7000-8000-000000000000")
