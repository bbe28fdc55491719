"""Processes in operating-system processes of their own, run by real workers."""

import json
import os
import re
import signal
import threading
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import connection, connections

from tests.integration.runtime import is_running, kill, once_in_all, workers
from tests.processes.models import Export, Report, Stubborn
from tests.waiting import eventually
from windlass.management import job_lines
from windlass.models import Job
from windlass.processes.lines import line, target_of
from windlass.processes.writing import Writer

OPTIONS = {**workers(threads=4), "stop_grace": 0.5, "shutdown_timeout": 5}
SOON = timedelta(seconds=1)


@pytest.fixture(autouse=True)
def nobody_left(committed):
    def remove():
        for model in (Report, Export):
            model.objects.all().delete()

    remove()
    yield
    remove()


@pytest.fixture
def runtime(start):
    def begin(options=OPTIONS, **processes):
        more = {"WINDLASS_TEST_PROCESSES": json.dumps(processes)}
        return start(options=options, **more)

    return begin


def ran(process, timeout=60):
    assert process.wait(timeout), said(process)
    return process


def said(process, **which):
    lines = process.logs.filter(**which).order_by("sequence")
    return [line.message for line in lines]


def says(process, text):
    return eventually(lambda: [s for s in said(process) if text in s])


@once_in_all
@pytest.mark.parametrize("executor", ["fork", "spawn"])
def test_a_process_runs_in_a_process_and_group_of_its_own(runtime, executor):
    started = runtime(EXECUTOR=executor)
    report = Report.objects.create()
    id = report.start()

    ran(report)

    assert (report.status, report.error) == ("succeeded", "")
    pid, group, _time = report.result.split()
    assert int(group) not in (started.pid, os.getpgrp())
    assert (pid == group) == (executor == "fork")
    assert said(report) == ["Started.", "It goes well.", "Finished."]
    assert report.worker_pid is None
    assert report.celery_task_id == id
    eventually(lambda: Job.objects.get(pk=id).state == "succeeded")


@once_in_all
@pytest.mark.parametrize("executor", ["fork", "spawn"])
def test_a_failure_is_told_with_its_traceback(runtime, executor):
    runtime(EXECUTOR=executor)
    report = Report.objects.create(kind="fail")
    id = report.start()

    ran(report)

    assert (report.status, report.error) == ("failed", "It goes wrong.")
    assert "do_fail" in report.history[-1]["traceback"]
    assert said(report, level="error") == ["It goes wrong."]
    job = eventually(lambda: Job.objects.filter(pk=id, state="failed").first())
    assert "It goes wrong." in job.errors[0].traceback


@once_in_all
@pytest.mark.parametrize("executor", ["fork", "spawn"])
def test_a_process_that_vanishes_has_failed_and_says_how(runtime, executor):
    runtime(EXECUTOR=executor)
    report = Report.objects.create(kind="vanish")
    report.start()

    ran(report)

    assert report.status == "failed"
    assert "exited with status 3" in report.error
    assert "Before." in said(report)


@once_in_all
def test_the_lines_of_a_job_say_how_its_process_ended(runtime):
    runtime()
    report = Report.objects.create(kind="vanish")
    job = Job.objects.get(pk=report.start())

    lines = [each.message for each in job_lines.lines(job, follow=True)]

    assert lines[1] == "Attempt 1 began."
    assert "Its process exited with status 3. It had used " in lines[-2]
    assert lines[-1] == "The job has failed (crashed)."


@pytest.mark.parametrize("executor", ["fork", "spawn"])
def test_all_it_says_is_in_its_log_with_where_it_came_from(runtime, executor):
    runtime(EXECUTOR=executor)
    report = Report.objects.create(kind="say")
    report.start()

    ran(report)

    found = {(line.stream, line.level, line.message) for line in report.logs.all()}
    assert found >= {
        ("log", "debug", "said"),
        ("logging", "warning", "recorded 1"),
        ("stdout", "info", "printed"),
        ("stderr", "warning", "on the other"),
        ("stdout", "info", "by a program"),
    }
    lines = [line.message for line in report.logs.order_by("sequence")]
    # What a program says comes by a pipe, at about its time.
    lines.remove("by a program")
    assert (lines[0], lines[-2:]) == ("Started.", ["without an end", "Finished."])
    counted = [text.split() for text in lines if text[:4] in ("even", "odd ")]
    assert [int(number) for _what, number in counted] == list(range(40))
    assert {line.attempt for line in report.logs.all()} == {1}
    numbers = [line.sequence for line in report.logs.all()]
    assert numbers == list(range(1, len(numbers) + 1))


@once_in_all
@pytest.mark.parametrize("executor", ["fork", "spawn"])
def test_what_programs_print_is_between_the_beginning_and_the_end(runtime, executor):
    runtime(EXECUTOR=executor)
    report = Report.objects.create(kind="call")
    report.start()

    ran(report)

    lines = said(report)
    assert lines[:2] == ["Started.", "before 0"]
    assert lines[-1] == "Finished."
    assert [s for s in lines if s[:4] == "prog"] == [f"program {n}" for n in range(5)]


@once_in_all
def test_output_is_left_alone_where_it_is_not_wanted(runtime):
    runtime(CAPTURE_OUTPUT=False)
    report = Report.objects.create(kind="say")
    report.start()

    ran(report)

    assert {line.stream for line in report.logs.all()} == {"log", "logging", "system"}


def test_lines_survive_a_rollback(runtime):
    runtime()
    report = Report.objects.create(kind="roll_back")
    report.start()

    ran(report)

    assert said(report) == ["Started.", "within", "after", "Finished."]
    assert report.result == ""


def test_a_log_is_not_held_up_by_what_the_run_has_locked(runtime):
    runtime()
    report = Report.objects.create(kind="lock")
    report.start()

    ran(report)

    assert report.status == "succeeded", report.error
    assert report.logs.count() == 5_003
    assert report.logs.order_by("sequence").last().sequence == 5_003


@once_in_all
def test_lines_are_readable_while_it_runs_and_survive_its_kill(runtime):
    runtime()
    report = Report.objects.create(kind="wait")
    report.start()
    says(report, "Waiting.")

    report.refresh_from_db()
    kill(report.worker_pid)

    ran(report)
    assert "was killed by signal 9" in report.error
    assert "Waiting." in said(report)


def test_a_timeout_climbs_every_rung_and_nothing_is_left(runtime):
    """As in the issue: it ignores SIGTERM, has grandchildren, and neighbours."""
    runtime(KILL_TERM_RETRIES=2, KILL_TERM_WAIT_SECONDS=0.3)
    neighbour = Report.objects.create(kind="wait")
    neighbour.start()
    report = Report.objects.create(kind="stay", timeout=timedelta(seconds=5))
    report.start()
    near = int(says(report, "near")[0].split()[1])
    far = int(says(report, "far")[0].split()[1])
    report.refresh_from_db()
    leader = report.worker_pid

    ran(report)

    assert not any(map(is_running, (leader, near, far)))
    assert report.status == "timed_out"
    assert report.error == "It ran longer than its timeout of 5 seconds."
    rungs = [s.split()[0] for s in said(report) if "to process group" in s]
    assert rungs == ["SIGTERM", "SIGTERM", "SIGKILL"]
    assert said(report)[-1] == report.error
    assert "3 signals, with SIGKILL" in said(report)[-2]
    neighbour.refresh_from_db()
    assert neighbour.status == "running"


@once_in_all
def test_what_comes_to_an_end_after_it_was_told_to_stop_has_timed_out(runtime):
    runtime()
    report = Report.objects.create(kind="swallow", timeout=SOON)
    report.start()

    assert ran(report).status == "timed_out"


@once_in_all
@pytest.mark.parametrize("executor", ["fork", "spawn"])
def test_a_cancel_returns_at_once_and_is_told_when_the_code_is_dead(runtime, executor):
    runtime(EXECUTOR=executor)
    report = Report.objects.create(kind="wait")
    report.start()
    says(report, "Waiting.")
    report.refresh_from_db()
    leader = report.worker_pid

    report.cancel()
    status = report.status

    assert ran(report).status == "cancelled"
    assert status == "running"
    assert not is_running(leader)
    assert "Cleaning up." in said(report)
    assert "Cancel was asked for." in said(report)


@once_in_all
def test_one_that_waits_is_cancelled_and_never_runs(runtime):
    report = Report.objects.create()
    id = report.start()
    report.cancel()
    runtime()
    other = Report.objects.create()
    other.start()

    ran(other)

    report.refresh_from_db()
    assert report.status == "cancelled"
    assert "Started." not in said(report)
    assert Job.objects.get(pk=id).state == "cancelled"


@once_in_all
def test_a_killed_worker_fails_what_may_not_run_again(runtime):
    started = runtime()
    report = Report.objects.create(kind="wait")
    report.start()
    says(report, "Waiting.")
    (worker,) = started.worker()

    kill(worker)

    assert ran(report).status == "failed"
    assert report.error


def test_a_killed_worker_repeats_what_may_run_again(runtime):
    started = runtime()
    report = Stubborn.objects.create(kind="wait")
    report.start()
    says(report, "Waiting.")
    (worker,) = started.worker()

    kill(worker)

    eventually(lambda: Report.objects.get(pk=report.pk).attempts == 2)
    report.cancel()
    assert ran(report).status == "cancelled"
    assert [entry["attempt"] for entry in report.history] == [1, 2]


@once_in_all
def test_a_host_that_is_gone_is_followed_by_another_whose_timeout_counts(runtime):
    first = runtime()
    report = Stubborn.objects.create(kind="wait", timeout=timedelta(seconds=3))
    report.start()
    says(report, "Waiting.")
    first.worker()

    first.send_to_group(signal.SIGKILL)
    runtime(KILL_TERM_WAIT_SECONDS=0.2)

    assert ran(report).status == "timed_out"
    assert report.attempts == 2


@once_in_all
def test_attempts_remain_until_one_goes_well(runtime):
    runtime()
    report = Stubborn.objects.create(kind="second_time")
    report.start()

    assert ran(report).status == "succeeded"
    assert report.attempts == 2
    assert [entry["status"] for entry in report.history] == ["pending", "succeeded"]


@once_in_all
def test_a_restart_runs_again_with_numbers_that_go_on(runtime):
    runtime()
    report = Report.objects.create()
    report.start()
    ran(report)
    report.restart()

    assert ran(report).status == "succeeded"
    assert [line.sequence for line in report.logs.all()] == [1, 2, 3, 4, 5, 6]
    assert (report.run_number, report.attempts) == (2, 2)


def test_many_writers_of_several_interpreters_number_their_lines_together(runtime):
    runtime()
    judge_crowd([3, 3, 3], lines=500)


@pytest.mark.skipif(connection.vendor == "mysql", reason="it is the same, and slower")
@pytest.mark.parametrize("executor", ["fork", "spawn"])
def test_ten_writers_in_three_interpreters_log_100_000_lines(runtime, executor):
    """As in the issue."""
    if connection.vendor != "postgresql" and executor == "spawn":
        pytest.skip("it is the same on every database")
    runtime(EXECUTOR=executor)
    judge_crowd([4, 3, 3], lines=10_000)


def judge_crowd(threads, lines):
    """Have so many threads of each interpreter say so many lines, and look at all."""
    report = Report.objects.create(
        kind="crowd", given={"threads": threads, "lines": lines}
    )
    report.start()

    assert ran(report, timeout=120).status == "succeeded", report.error
    rows = report.logs.order_by("sequence")
    found = list(rows.values_list("sequence", "stream", "message"))
    assert [number for number, *_said in found] == list(range(1, len(found) + 1))
    each = {}
    for _number, stream, message in found:
        if stream == "log":
            pid, thread, number = message.split()
            each.setdefault((pid, thread), []).append(int(number))
    assert len(each) == sum(threads)
    assert len({pid for pid, _thread in each}) == len(threads)
    assert all(numbers == list(range(lines)) for numbers in each.values())


def test_other_keys_and_logs_with_columns_of_their_own(runtime):
    runtime()
    export = Export.objects.create()
    export.start()

    assert ran(export).status == "succeeded"
    assert [(line.sequence, line.note) for line in export.logs.all()] == [
        (1, "own"),
        (2, "own"),
        (3, "own"),
    ]


@once_in_all
def test_a_start_that_is_rolled_back_starts_nothing(runtime):
    from django.db import transaction

    report = Report.objects.create()
    with transaction.atomic():
        report.start()
        transaction.set_rollback(True)

    assert Job.objects.count() == 0
    report.refresh_from_db()
    assert report.queued is None


def test_a_follower_sees_lines_as_they_come(runtime):
    runtime()
    report = Report.objects.create(kind="wait")
    report.start()

    lines = []
    for each in report.stream():
        lines.append(each.message)
        if each.message == "Waiting.":
            report.cancel()

    assert lines[:2] == ["Started.", "Waiting."]
    assert re.search("It ended after", lines[-1])


@once_in_all
def test_a_process_whose_job_is_thrown_away_is_cancelled(runtime):
    from windlass import api

    report = Report.objects.create()
    report.start()
    assert api.QueueInfo("processes").clear()

    assert ran(report).status == "cancelled"


@once_in_all
def test_what_ends_while_its_worker_stops_has_ended(runtime):
    started = runtime()
    report = Report.objects.create(kind="linger")
    report.start()
    says(report, "Lingering.")

    started.send(signal.SIGTERM)
    report.log("go on")

    assert ran(report).status == "succeeded", report.error
    assert started.wait() == 0


@once_in_all
def test_what_a_stop_has_interrupted_fails_or_waits_for_the_next_worker(runtime):
    first = runtime(options={**OPTIONS, "shutdown_timeout": 0.3})
    once, twice = Report.objects.create(kind="wait"), Stubborn(kind="wait")
    twice.save()
    for each in (once, twice):
        each.start()
        says(each, "Waiting.")

    assert first.stop() == 0
    runtime()

    assert ran(once).status == "failed"
    eventually(lambda: Report.objects.get(pk=twice.pk).attempts == 2)
    twice.cancel()
    assert ran(twice).status == "cancelled"


@once_in_all
@pytest.mark.parametrize("executor", ["fork", "spawn"])
def test_a_run_that_reaches_its_memory_limit_says_so(runtime, executor):
    runtime(EXECUTOR=executor, MEMORY_LIMIT="512M")
    report = Report.objects.create(kind="hoard")
    report.start()

    ran(report)

    assert report.status == "failed"
    assert report.error == "It reached its memory limit of 512 MiB."
    assert "Hoarding." in said(report)


@once_in_all
@pytest.mark.parametrize("executor", ["fork", "spawn"])
def test_a_run_that_opens_too_many_files_says_so(runtime, executor):
    runtime(EXECUTOR=executor, OPEN_FILES_LIMIT=100)
    report = Report.objects.create(kind="open_many")
    report.start()

    ran(report)

    assert report.status == "failed"
    assert report.error == "It reached its limit of 100 open files."
    assert "do_open_many" in report.history[-1]["traceback"]


@once_in_all
@pytest.mark.parametrize("executor", ["fork", "spawn"])
def test_a_run_holds_no_connection_unless_it_asks_for_one(runtime, executor):
    """Or fifty that wait for hours would hold fifty of a server's hundred."""
    runtime(EXECUTOR=executor)
    report = Report.objects.create(kind="say_what_it_holds")
    report.start()

    assert ran(report).status == "succeeded"
    assert report.result == "0 connections"


@once_in_all
def test_a_database_that_takes_nobody_in_uses_up_no_attempt(runtime):
    runtime()
    first = Report.objects.create()
    first.start()
    ran(first)
    report = Report.objects.create()

    with nobody_let_in():
        report.start()
        job = Job.objects.filter(pk=report.celery_task_id)
        eventually(lambda: job.filter(state="scheduled").exists())

    assert ran(report).status == "succeeded", report.error
    assert (report.attempts, report.max_attempts) == (1, 1)


@contextmanager
def nobody_let_in():
    """Connections that there are stay; PostgreSQL refuses new ones, as a full one."""
    name = connection.settings_dict["NAME"]
    with connections["default"].cursor() as held, connection._nodb_cursor() as cursor:
        held.execute("SELECT 1")
        cursor.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        try:
            yield
        finally:
            cursor.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


@once_in_all
def test_a_nice_run_stands_back_for_others_and_its_worker_does_not(runtime):
    runtime(NICE=7)
    report = Report.objects.create(kind="be_nice")
    report.start()

    assert ran(report).status == "succeeded"
    own, its_parents = map(int, report.result.split())
    assert own == its_parents + 7


@once_in_all
def test_a_run_that_uses_up_its_cpu_time_says_so(runtime):
    runtime(CPU_LIMIT=1)
    report = Report.objects.create(kind="compute")
    report.start()

    ran(report)

    assert (report.status, report.error) == (
        "failed",
        "It used up its 1 s of CPU time.",
    )


@once_in_all
def test_what_does_not_hear_of_its_limit_is_killed_and_named(runtime):
    runtime(CPU_LIMIT=1)
    report = Report.objects.create(kind="compute_in_c")
    report.start()

    ran(report)

    assert report.status == "failed"
    assert re.search(r"killed at [\d.]+ s of 1 s of CPU time", report.error)


def test_of_two_starts_at_once_one_is_refused(committed):
    report = Report.objects.create()
    together, outcomes = threading.Barrier(4), []

    def start():
        own = Report.objects.get(pk=report.pk)
        together.wait()
        try:
            outcomes.append(own.start())
        except RuntimeError as error:
            outcomes.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    (id,) = [each for each in outcomes if isinstance(each, str)]
    assert [str(pk) for pk in Job.objects.values_list("pk", flat=True)] == [id]
    assert "started before" in str(next(e for e in outcomes if e != id))


def test_a_collector_that_was_overtaken_numbers_anew(committed):
    """Two writers that both believe they know the last number."""
    report = Report.objects.create()
    first, second = (Writer(target_of(report)) for _ in range(2))

    for number in range(5):
        first.write([line(f"first {number}"), line("and")])
        second.write([line(f"second {number}")])

    assert [each.sequence for each in report.logs.all()] == list(range(1, 16))
