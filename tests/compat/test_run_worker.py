"""``manage.py run_worker``: the flags of django-task-worker, and what they do."""

import signal

import pytest

from tests.integration.project import tasks
from tests.integration.runtime import once_in_all
from tests.waiting import eventually
from windlass import api
from windlass.compat.client import create_task, wait_for_completion
from windlass.compat.models import DatabaseTask
from windlass.conf import options
from windlass.jobs import policies
from windlass.models import Job

HERE = "tests.compat.functions"


@pytest.fixture
def run_worker(start):
    def run_worker(*arguments, **env):
        return start(*arguments, command="run_worker", **env)

    return run_worker


@once_in_all
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--retry", "-1"], "--retry must be from 0 to 9999"),
        (["--retry", "10000"], "--retry must be from 0 to 9999"),
        (["--concurrency", "0"], "--concurrency must be at least 1"),
        (["--concurrency", "-2"], "--concurrency must be at least 1"),
    ],
)
def test_flags_that_make_no_sense_exit_2(run_worker, arguments, said):
    runtime = run_worker(*arguments)

    assert runtime.wait() == 2
    assert said in runtime.said()
    assert "Traceback" not in runtime.said()


@once_in_all
def test_it_runs_tasks_of_every_queue_in_one_thread(run_worker):
    create_task("tests.named.multiply", args=[2, 3])
    create_task("tests.named.multiply", args=[2, 4], queue_name="elsewhere")

    runtime = run_worker("--drain")

    assert runtime.wait() == 0
    assert "1 x 1 threads" in runtime.said()
    results = DatabaseTask.objects.filter(status="COMPLETED").order_by("created_at")
    assert [task.result for task in results] == ["6", "8"]


@once_in_all
def test_concurrency_is_the_number_of_threads(run_worker, tmp_path):
    (tmp_path / "here").mkdir()
    made = [
        create_task(f"{HERE}.meet", args=[str(tmp_path / "here"), 3]) for _ in range(3)
    ]

    runtime = run_worker("--concurrency", "3", "--drain")

    assert runtime.wait() == 0
    assert "1 x 3 threads" in runtime.said()
    assert [wait_for_completion(task.id).result for task in made] == ["True"] * 3


def test_two_retries_are_three_attempts(run_worker, tmp_path):
    good = create_task(f"{HERE}.fail_first", args=[str(tmp_path / "good"), 2])
    bad = create_task(f"{HERE}.fail_first", args=[str(tmp_path / "bad"), 3])
    assert Job.objects.get(pk=bad.pk).max_attempts == 1

    run_worker("--retry", "2", "--concurrency", "2")
    good, bad = (wait_for_completion(task.id, timeout=60) for task in (good, bad))

    assert (good.status, good.result, good.retry_count) == ("COMPLETED", "done", 2)
    assert (bad.status, bad.retry_count) == ("FAILED", 2)
    assert bad.error == "ValueError: not yet"
    assert (tmp_path / "bad").stat().st_size == 3


@once_in_all
def test_without_a_number_the_settings_say_it(run_worker):
    made = create_task(f"{HERE}.fail")

    assert run_worker("--drain").wait() == 0

    assert (made.status, made.retry_count) == ("PENDING", 0)
    made.refresh_from_db()
    assert (made.status, made.retry_count) == ("FAILED", 0)


@once_in_all
def test_what_says_its_own_number_keeps_it(run_worker):
    plain = create_task(f"{HERE}.fail", max_attempts=1)
    decorated = tasks.system_exit.enqueue()

    assert run_worker("--retry", "5", "--drain").wait() == 0

    for id in (plain.id, decorated.id):
        job = Job.objects.get(pk=id)
        assert (job.state, job.attempts) == ("failed", 1)


@once_in_all
def test_a_task_whose_worker_was_killed_is_repeated_by_the_number(run_worker, tmp_path):
    made = create_task(f"{HERE}.die_first", args=[str(tmp_path / "died")])

    run_worker("--retry", "1")
    task = wait_for_completion(made.id, timeout=60)

    assert (task.status, task.result, task.retry_count) == ("COMPLETED", "alive", 1)


@once_in_all
def test_without_a_retry_a_task_whose_worker_was_killed_fails(run_worker, tmp_path):
    made = create_task(f"{HERE}.die_first", args=[str(tmp_path / "died")])

    run_worker("--retry", "0")
    task = wait_for_completion(made.id, timeout=60)

    assert (task.status, task.retry_count) == ("FAILED", 0)


@once_in_all
def test_sigterm_lets_work_in_hand_end(run_worker, tmp_path):
    (tmp_path / "here").mkdir()
    made = create_task(f"{HERE}.meet", args=[str(tmp_path / "here"), 2])
    runtime = run_worker()
    eventually(lambda: DatabaseTask.objects.filter(status="PROGRESS"))
    eventually(lambda: list((tmp_path / "here").iterdir()))

    runtime.send(signal.SIGTERM)
    (tmp_path / "here" / "the test").touch()

    assert runtime.wait() == 0
    assert wait_for_completion(made.id, timeout=0).result == "True"


@pytest.mark.django_db
def test_a_retry_by_hand_gives_the_number_afresh(tmp_path):
    made = create_task(f"{HERE}.fail")
    (claimed,) = api.claim_ready_jobs(1)
    assert policies.with_budget(claimed.job, 3).max_attempts == 3
    assert api.execute_claimed_job(claimed).state == "failed"
    assert options("default").max_attempts == 1

    api.retry_failed_job(made.id)

    (claimed,) = api.claim_ready_jobs(1)
    assert policies.with_budget(claimed.job, 3).max_attempts == 1 + 3


def test_a_plain_function_that_is_a_step_has_the_number_too(run_worker, settings):
    settings.JOBS = {"fail": ["tests.compat.steps.fail"]}
    job = Job.objects.create(name="fail")

    run_worker("--retry", "1")

    ended = api.wait_for_completion(job.pk, timeout=60)
    assert (ended.state, len(ended.history)) == ("failed", 2)
