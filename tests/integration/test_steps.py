"""Jobs of several steps under real workers, which may be killed at any line."""

import os
import signal

import pytest

from tests.integration.project.jobs import JOBS, STEPS
from tests.integration.runtime import once_in_all
from tests.waiting import eventually
from windlass.models import Job, LiveJob


@pytest.fixture(autouse=True)
def jobs(settings):
    settings.JOBS = JOBS


def ended(job, timeout=60):
    """Wait for the end of a job."""

    def look():
        found = Job.objects.get(pk=job.pk)
        return found if found.finished_at else None

    return eventually(look, timeout=timeout)


def test_steps_of_every_kind_share_one_workspace(start):
    job = Job.objects.create(name="every_kind", workspace={"n": 1})

    runtime = start()
    done = ended(job)

    assert (done.state, done.step, done.workspace["n"]) == ("succeeded", 3, 1)
    signed = done.workspace["by"]
    assert [name for name, _pid, _parent in signed] == [
        "first",
        "alone",
        "later",
        "last",
    ]
    pids = {name: pid for name, pid, _parent in signed}
    assert pids["first"] == pids["later"] != pids["alone"]
    # The step in a process of its own has left its usage beside the others.
    assert [e.get("exit_code") for e in done.history] == [None, 0, None]
    assert runtime.stop() == 0


def test_a_step_whose_worker_is_killed_runs_again_and_no_other_does(start, tmp_path):
    gate = tmp_path / "gate"
    job = Job.objects.create(name="gated", workspace={"gate": str(gate)})
    runtime = start()
    eventually((tmp_path / "began-1").exists)
    (worker,) = runtime.worker()

    os.kill(worker, signal.SIGKILL)
    eventually((tmp_path / "began-2").exists)
    gate.touch()
    done = ended(job)

    assert (done.state, done.crashes) == ("succeeded", 1)
    # What the killed attempt had changed was never stored.
    signed = done.workspace["by"]
    assert [name for name, _pid, _parent in signed] == ["first", "gated", "last"]
    assert signed[0][1] == worker != signed[1][1]


@once_in_all
def test_another_worker_may_take_over_between_two_steps(start):
    job = Job.objects.create(name="every_kind")
    start("--max-jobs", "1", "--drain").wait()
    start("--drain").wait()

    done = Job.objects.get(pk=job.pk)

    assert done.state == "succeeded"
    workers = {entry["worker"] for entry in done.history} | set(done.worker_ids)
    assert len(workers) > 1


@once_in_all
def test_a_step_that_runs_too_long_is_ended_and_its_hook_told(start):
    job = Job.objects.create(name="endless")

    start()
    done = ended(job)

    assert (done.state, done.reason, done.step) == ("failed", "timeout", 1)
    assert done.workspace["endless"] is True
    assert done.workspace["failure"] == "JobTimeout"
    assert done.task_path == f"{STEPS}.endless"
    assert not LiveJob.objects.exists()
