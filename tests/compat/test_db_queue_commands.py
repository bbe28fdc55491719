"""``worker``, ``create_job``, ``delete_old_jobs`` and ``queue_depth``."""

import signal
import subprocess
import sys
from datetime import timedelta
from io import StringIO
from itertools import pairwise

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from tests.integration.runtime import ROOT, environment, once_in_all
from tests.running import run_ready
from tests.waiting import eventually
from windlass import api
from windlass.compat.models import QueueJob
from windlass.models import EndedJob, Job

HERE = "tests.compat.steps"
JOBS = {
    "greet": [f"{HERE}.step_one", f"{HERE}.step_two"],
    "fail": [f"{HERE}.fail"],
    "note": {"tasks": [f"{HERE}.note"]},
    "hold": [f"{HERE}.hold"],
}


@pytest.fixture(autouse=True)
def jobs(settings):
    settings.JOBS = JOBS


def said(*arguments):
    """What a command writes to stdout."""
    output = StringIO()
    call_command(*arguments, stdout=output)
    return output.getvalue().strip()


def job(id):
    return Job.objects.get(pk=id)


# create_job


@pytest.mark.django_db
def test_create_job_enqueues_a_job():
    text = said("create_job", "greet", "--queue_name", "q", "--workspace", '{"a": [1]}')

    made = QueueJob.objects.get()
    assert (made.name, made.queue_name, made.workspace) == ("greet", "q", {"a": [1]})
    assert str(made.pk) in text


@pytest.mark.django_db
def test_create_job_needs_a_name_alone():
    said("create_job", "greet")

    made = QueueJob.objects.get()
    assert (made.state, made.queue_name, made.workspace) == ("NEW", "default", {})


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "job_name"),
        (["great"], "Did you mean 'greet'"),
        (["greet", "--workspace", "{a: 1}"], "--workspace is not JSON"),
        (["greet", "--workspace", "[1]"], "must be a dict"),
    ],
)
def test_create_job_refuses_what_means_nothing(arguments, complaint):
    with pytest.raises(CommandError, match=complaint):
        said("create_job", *arguments)

    assert not Job.objects.exists()


# queue_depth


@pytest.mark.django_db
def test_queue_depth_is_one_line():
    QueueJob.objects.create(name="greet")
    QueueJob.objects.create(name="greet", run_after=timedelta(hours=1))
    QueueJob.objects.create(name="greet", queue_name="mail")

    assert said("queue_depth") == "event=queue_depths default=2"
    assert said("queue_depth", "--exclude_future_jobs") == (
        "event=queue_depths default=1"
    )
    assert said("queue_depth", "mail", "default", "none") == (
        "event=queue_depths mail=1 default=2 none=0"
    )


@pytest.mark.django_db
def test_queue_depth_of_an_alias_that_does_not_exist_is_an_error():
    with pytest.raises(CommandError, match="no such Windlass backend"):
        said("queue_depth", "--backend", "nowhere")


# delete_old_jobs


@pytest.fixture
def ended():
    """A job that succeeded and one that failed, a day and a half ago."""
    done = QueueJob.objects.create(name="greet")
    run_ready(), run_ready()
    failed = QueueJob.objects.create(name="fail")
    run_ready()
    long_ago = timezone.now() - timedelta(hours=36)
    EndedJob.objects.update(finished_at=long_ago)
    return {done.pk, failed.pk}


@pytest.mark.django_db
def test_delete_old_jobs_deletes_what_ended_more_than_a_day_ago(ended):
    waiting = QueueJob.objects.create(name="greet")
    fresh = QueueJob.objects.create(name="fail", priority=1)
    run_ready(1)

    assert said("delete_old_jobs").endswith("Deleted old jobs")

    left = set(Job.objects.values_list("pk", flat=True))
    assert left == {waiting.pk, fresh.pk}


@pytest.mark.django_db
@pytest.mark.parametrize(("hours", "left"), [("48", 2), ("35.5", 0), ("0", 0)])
def test_delete_old_jobs_takes_hours(ended, hours, left):
    said("delete_old_jobs", "--hours", hours)

    assert Job.objects.count() == left


@pytest.mark.django_db
def test_no_hours_are_none_at_all():
    QueueJob.objects.create(name="fail")
    running = QueueJob.objects.create(name="greet", priority=-1)
    run_ready(1)
    api.claim_ready_jobs(1)

    said("delete_old_jobs", "--hours", "0")

    assert QueueJob.objects.get().pk == running.pk


@pytest.mark.django_db
@pytest.mark.parametrize("hours", ["-1", "nan", "inf"])
def test_hours_that_mean_nothing_are_refused(ended, hours):
    with pytest.raises(CommandError, match="--hours must be"):
        said("delete_old_jobs", "--hours", hours)

    assert Job.objects.count() == 2


# worker


@pytest.fixture
def worker(start):
    def worker(*arguments, **given):
        return start(*arguments, command="worker", **given)

    return worker


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


@once_in_all
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--rate_limit", "-1"], "--rate_limit must be a number of seconds"),
        (["--rate_limit", "nan"], "--rate_limit must be a number of seconds"),
        (["a**"], "--queues"),
        (["default", "other"], "unrecognized arguments"),
    ],
)
def test_flags_of_the_worker_that_make_no_sense_exit_2(worker, arguments, complaint):
    runtime = worker(*arguments)

    assert runtime.wait() == 2
    assert complaint in runtime.said()
    assert "Traceback" not in runtime.said()


@once_in_all
def test_a_worker_runs_every_step_of_the_jobs_of_its_queue(worker):
    made = QueueJob.objects.create(name="greet")
    failed = QueueJob.objects.create(name="fail")
    other = QueueJob.objects.create(name="greet", queue_name="other")

    runtime = worker("--drain")

    assert runtime.wait() == 0
    assert 'Starting job worker for queue "default"' in runtime.said()
    assert "1 x 1 threads" in runtime.said()
    states = dict(QueueJob.objects.values_list("pk", "state"))
    assert states == {made.pk: "COMPLETE", failed.pk: "FAILED", other.pk: "NEW"}
    assert job(made.pk).workspace["said"] == "Task 1 says: Hello, task 2!"


@once_in_all
def test_a_worker_may_serve_another_queue(worker, tmp_path):
    path = str(tmp_path / "notes")
    for queue in ("other", "default"):
        QueueJob.objects.create(name="note", queue_name=queue, workspace={"path": path})

    assert worker("other", "--drain").wait() == 0

    assert [line.split()[1] for line in lines(tmp_path / "notes")] == ["other"]


@once_in_all
def test_between_two_jobs_a_worker_waits_as_long_as_it_is_told(worker):
    made = [QueueJob.objects.create(name="greet").pk for _ in range(2)]

    runtime = worker("--rate_limit", "0.7", "--drain")

    assert runtime.wait() == 0
    assert "rate limit of one job per 0.7 second(s)" in runtime.said()
    # Each of the four steps is one thing to run.
    times = []
    for id in made:
        done = job(id)
        (first,) = done.history
        times.append([parse_datetime(first[key]) for key in ("started_at", "ended_at")])
        times.append([done.started_at, done.finished_at])
    times.sort()
    for (_began, ended), (began, _ended) in pairwise(times):
        assert (began - ended).total_seconds() >= 0.7


@once_in_all
def test_a_dry_run_starts_nothing(committed, journal):
    QueueJob.objects.create(name="greet")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "django",
            "worker",
            "mail",
            "--rate_limit=5",
            "--dry-run",
        ],
        cwd=ROOT,
        env=environment(journal.path),
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        'Starting job worker for queue "mail" with rate limit of one job per 5 '
        "second(s)\n"
    )
    assert QueueJob.objects.get().state == "NEW"


@once_in_all
def test_a_worker_that_was_told_to_stop_shows_that_and_ends_its_job(worker, tmp_path):
    gate, began = tmp_path / "gate", tmp_path / "began"
    held = QueueJob.objects.create(
        name="hold", workspace={"gate": str(gate), "began": str(began)}
    )
    waiting = QueueJob.objects.create(name="greet")
    runtime = worker()
    eventually(began.exists)
    assert QueueJob.objects.get(pk=held.pk).state == "PROCESSING"

    runtime.send(signal.SIGTERM)
    # What it had claimed beside that one goes back.
    stopping = QueueJob.objects.filter(state="STOPPING").values_list("pk", flat=True)
    eventually(lambda: list(stopping.all()) == [held.pk])
    gate.touch()

    assert runtime.wait() == 0
    assert QueueJob.objects.get(pk=held.pk).state == "COMPLETE"
    assert QueueJob.objects.get(pk=waiting.pk).state == "NEW"
