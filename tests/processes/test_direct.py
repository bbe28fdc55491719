"""Processes executed in the calling thread, and by the eager backend."""

from datetime import timedelta

import pytest
from django.core.exceptions import ImproperlyConfigured

from tests.processes.models import Export, Report, Silent, Yearly
from windlass import conf
from windlass.models import LiveJob
from windlass.processes import settling

pytestmark = pytest.mark.django_db

EAGER = {"BACKEND": "windlass.processes.backends.eager.EagerBackend"}


@pytest.fixture(autouse=True)
def eager(settings):
    settings.WINDLASS_PROCESSES = EAGER


def fresh(process):
    return type(process).objects.get(pk=process.pk)


def said(process):
    return [line.message for line in process.logs.order_by("sequence")]


def test_a_process_runs_to_its_end_in_the_caller():
    report = Report.objects.create()
    assert (report.status, report.timeout_seconds()) == ("pending", 1200)

    report.start()

    found = fresh(report)
    assert (report.status, found.status) == ("succeeded", "succeeded")
    assert found.started <= found.finished
    assert found.attempts == found.run_number == 1
    assert found.result
    assert said(report) == ["Started.", "It goes well.", "Finished."]
    assert [line.sequence for line in report.logs.all()] == [1, 2, 3]


def test_an_exception_fails_it_and_reaches_the_caller():
    report = Report.objects.create(kind="fail")

    with pytest.raises(ValueError, match="It goes wrong"):
        report.start()

    found = fresh(report)
    assert (found.status, found.error) == ("failed", "It goes wrong.")
    (entry,) = found.history
    assert "do_fail" in entry["traceback"]
    assert found.logs.get(level="error").message == "It goes wrong."


def test_an_exit_is_a_failure_too():
    report = Report.objects.create(kind="exit")

    with pytest.raises(SystemExit):
        report.execute()

    assert (fresh(report).status, fresh(report).error) == ("failed", "SystemExit: 3")


def test_a_restart_clears_the_last_end_and_keeps_the_attempts(settings):
    report = Report.objects.create(kind="fail")
    with pytest.raises(ValueError):
        report.start()
    settings.WINDLASS_PROCESSES = {}
    report.start()

    found = fresh(report)
    assert (found.status, found.error) == ("pending", "")
    assert found.finished is found.started is None
    assert (found.attempts, len(found.history)) == (1, 1)


def test_what_was_started_is_not_started_again(settings):
    settings.WINDLASS_PROCESSES = {}
    report = Report.objects.create()
    report.start()

    with pytest.raises(RuntimeError, match="started before"):
        fresh(report).start()


@pytest.mark.parametrize("status", ["running", "succeeded", "cancelled"])
def test_from_other_states_it_is_not_started(status):
    report = Report.objects.create(status=status)

    with pytest.raises(RuntimeError, match=status):
        report.start()

    assert fresh(report).status == status


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled", "timed_out"])
def test_from_every_end_it_is_restarted(status):
    report = Report.objects.create(status=status)

    report.restart()

    assert fresh(report).status == "succeeded"


def test_cancelled_before_it_ran_it_never_does():
    report = Report.objects.create()

    report.cancel()
    report.execute()

    assert fresh(report).status == "cancelled"
    assert [line.level for line in report.logs.all()] == ["warning"]
    with pytest.raises(RuntimeError, match="ended"):
        report.cancel()


def test_a_finished_process_is_not_executed_again():
    report = Report.objects.create()
    report.execute()

    with pytest.raises(RuntimeError, match="succeeded"):
        fresh(report).execute()


def test_an_instance_from_before_does_not_overwrite_the_status():
    report = Report.objects.create()
    old = fresh(report)
    report.execute()

    old.result = "mine"
    old.save()

    assert (fresh(report).status, fresh(report).result) == ("succeeded", "mine")


def test_a_status_that_is_set_on_purpose_is_saved():
    report = Report.objects.create()

    report.status = "failed"
    report.save()

    assert fresh(report).status == "failed"


def test_a_status_set_on_purpose_outlives_a_look_at_another_column():
    report = Report.objects.defer("result").get(pk=Report.objects.create().pk)

    report.status = "failed"
    assert report.result == ""
    report.save()

    assert fresh(report).status == "failed"


def test_lines_survive_a_rollback_and_keep_their_order():
    report = Report.objects.create(kind="roll_back")

    report.execute()

    assert said(report) == ["Started.", "within", "after", "Finished."]
    assert fresh(report).result == ""


def test_pages_are_ranges_of_numbers_and_are_clamped():
    report = Report.objects.create(kind="count", given={"lines": 98})
    report.execute()

    page = report.paginate_logs(page=2, per_page=30)

    assert [line.sequence for line in page] == list(range(31, 61))
    assert page.paginator.count == 100
    assert report.paginate_logs(page=99).number == 2
    assert report.paginate_logs(page="x").number == 1
    assert len(report.paginate_logs()) == 50
    assert [line.sequence for line in report.tail(after=98)] == [99, 100]
    assert len(report.tail(limit=7)) == 7
    assert len(list(report.stream(after=90))) == 10


def test_no_page_counts_the_log(django_assert_num_queries):
    report = Report.objects.create(kind="count", given={"lines": 98})
    report.execute()

    with django_assert_num_queries(2) as captured:
        list(report.paginate_logs(page=3, per_page=30))

    assert "COUNT" not in str(captured.captured_queries).upper()


def test_an_unknown_level_is_refused():
    report = Report.objects.create()

    with pytest.raises(ValueError, match="debug, info, warning, error"):
        report.log("x", level="loud")


def test_what_no_database_takes_is_shown():
    report = Report.objects.create()

    report.log("a\0b \ud800 \N{SNOWMAN}")
    report.log("x" * 20_000)

    first, second = report.logs.all()
    assert first.message == "a\N{SYMBOL FOR NULL}b \\ud800 \N{SNOWMAN}"
    assert second.message.endswith("(3,616 more characters)")


def test_a_process_without_a_log_says_what_to_declare():
    silent = Silent.objects.create()

    with pytest.raises(ImproperlyConfigured, match="class SilentLog"):
        silent.start()

    assert fresh(silent).status == "pending"


def test_keys_of_every_kind_and_rows_in_two_tables():
    export, yearly = Export.objects.create(), Yearly.objects.create()

    export.start()
    yearly.start()

    assert fresh(export).status == fresh(yearly).status == "succeeded"
    assert said(export) == ["Started.", "exported", "Finished."]
    assert {line.note for line in export.logs.all()} == {"own"}
    assert len(said(yearly)) == 3


def test_progress_is_kept_with_its_share():
    report = Report.objects.create(kind="progress", given={"total": 8})

    report.start()

    said = fresh(report).progress_data
    assert (said["current"], said["total"], said["percent"]) == (8, 8, 100)
    assert said["message"] == "counting"


def test_a_cancel_by_its_own_run():
    from windlass import Cancel

    report = Report.objects.create(kind="cancel")

    with pytest.raises(Cancel):
        report.start()

    assert fresh(report).status == "cancelled"


def test_a_timeout_that_was_set_before_the_start_counts():
    report = Report.objects.create()

    report.timeout = timedelta(minutes=45)
    report.start()

    assert report.timeout_seconds() == fresh(report).timeout_seconds() == 45 * 60


@pytest.mark.parametrize("model", [Report, Export])
def test_the_sweep_comes_to_every_process_however_many_wait(
    settings, monkeypatch, model
):
    settings.WINDLASS_PROCESSES = {}
    monkeypatch.setattr(settling, "BATCH", 2)
    waiting = [model.objects.create() for _each in range(5)]
    for process in waiting:
        process.start()
    last = max(waiting, key=lambda process: process.pk)
    LiveJob.objects.filter(pk=last.celery_task_id).delete()
    long_ago = last.queued - timedelta(hours=1)
    model.objects.filter(pk=last.pk).update(queued=long_ago)

    sweep = settling.Sweep(conf.options("default"))
    for _look in range(3):
        sweep.tick()

    assert (fresh(last).status, fresh(last).error) == ("failed", "Its job is gone.")
    left = model.objects.exclude(pk=last.pk).values_list("status", flat=True)
    assert set(left) == {"pending"}


def test_nothing_is_started_without_a_time_to_run_in():
    from datetime import timedelta

    report = Report.objects.create(timeout=timedelta(0))

    with pytest.raises(ValueError, match="timeout"):
        report.start()


class Recorder:
    """A backend of somebody else's make."""

    asked = []

    def dispatch(self, process):
        return "task", "watchdog"

    def kill(self, task_id):
        self.asked.append(("kill", task_id))

    def revoke_scheduled(self, task_id):
        self.asked.append(("revoke", task_id))


def test_a_backend_needs_three_methods_only(settings):
    Recorder.asked.clear()
    settings.WINDLASS_PROCESSES = {"BACKEND": f"{__name__}.Recorder"}
    report = Report.objects.create()

    assert report.start() == "task"
    assert fresh(report).watchdog_task_id == "watchdog"
    assert report.mark_running()
    report.cancel()

    assert fresh(report).status == "cancelled"
    assert fresh(report).watchdog_task_id == ""
    assert Recorder.asked == [("kill", "task"), ("revoke", "watchdog")]
    assert not report.mark_succeeded()


def test_setters_move_what_may_be_moved():
    report = Report.objects.create()

    assert not report.mark_succeeded()
    assert report.mark_running()
    assert report.mark_timed_out()

    assert report.error == "It ran longer than its timeout of 20 minutes 0 seconds."
    assert report.logs.get().level == "error"
    assert not report.mark_failed("late")
    assert fresh(report).status == "timed_out"


def test_a_line_from_outside_is_numbered_after_the_others():
    report = Report.objects.create()
    report.execute()

    report.log("afterwards")

    assert report.logs.get(sequence=4).message == "afterwards"
