"""A log keeps its head, its tail and what the supervision says; gaps are shown."""

import json
import logging

import pytest
from django.core.management import call_command
from django.db import connections
from django.urls import reverse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.runtime import kill, once_in_all
from tests.processes.models import Bookmark, Export, Report
from tests.processes.test_runtime import nobody_left, ran, runtime, says  # noqa: F401
from tests.waiting import eventually
from windlass.processes.collector import Collector
from windlass.processes.lines import SYSTEM, line, target_of
from windlass.processes.writing import Writer

EXAMPLES = {"sqlite": 80, "postgresql": 60, "mysql": 15}
LIMIT = 40


@pytest.fixture
def limited(settings):
    settings.WINDLASS_PROCESSES = {"LOG_LIMIT": LIMIT}


@pytest.fixture
def long(db, limited):
    """A report that has said 100 lines, and two by the supervision and a notice."""
    report = Report.objects.create(kind="count", given={"lines": 100})
    report.execute()
    return report


def numbers(process, **which):
    lines = process.logs.filter(**which).order_by("sequence")
    return list(lines.values_list("sequence", flat=True))


def is_accounted_for(lines, *, after=0):
    """Whether lines and the gaps between them are all numbers that follow one."""
    count = after
    for each in lines:
        count += each.left_out or 1
        if each.sequence != count:
            return False
    return True


BLOCKS = st.lists(st.lists(st.booleans(), min_size=1, max_size=30), max_size=12)


def test_what_stays_is_the_head_the_tail_and_what_the_supervision_said(committed):
    @settings(
        max_examples=EXAMPLES[connections["default"].vendor],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(most=st.integers(1, 60), before=st.integers(0, 5), blocks=BLOCKS)
    def check(most, before, blocks):
        report = Report.objects.create()
        if before:
            Writer(target_of(report)).write([line("earlier")] * before)
        writer = Writer(target_of(report), most=most)
        own, said = set(range(1, before + 1)), 0
        for block in blocks:
            writer.write([line("x", stream=SYSTEM if s else "log") for s in block])
            said += sum(block)
            writer.leave_out()
            judge(report, writer, own, said, spare=writer.cap.step)
        writer.leave_out(exactly=True)
        judge(report, writer, own, said, spare=1)

    check()


def judge(report, writer, own, said, *, spare):
    """``spare``: of so many lines too many, some would have been left out."""
    found, last, most = set(numbers(report)), writer.last or len(own), writer.most
    head = set(range(len(own) + 1, len(own) + most // 2 + 1))
    tail = set(range(last - (most - most // 2) + 1, last + 1)) - own
    system = set(numbers(report, stream=SYSTEM))
    needed = own | {n for n in head if n <= last} | {n for n in tail if n > len(own)}
    assert needed <= found
    middle = found - needed
    assert len(middle - system) < spare
    # None of what the supervision said has gone, and the notice is one of it.
    noticed = report.logs.filter(message__startswith="This run has said").count()
    assert len(system) == said + noticed
    assert is_accounted_for(report.tail(limit=10_000))
    assert max(found, default=0) == last


def test_a_log_within_its_limit_has_no_gap(db, limited):
    report = Report.objects.create(kind="count", given={"lines": LIMIT - 2})
    report.execute()

    assert numbers(report) == list(range(1, LIMIT + 1))
    assert not [each for each in report.tail() if each.left_out]


def test_without_a_limit_all_is_kept(db, settings):
    settings.WINDLASS_PROCESSES = {"LOG_LIMIT": None}
    report = Report.objects.create(kind="count", given={"lines": 200})
    report.execute()

    assert len(numbers(report)) == 202


def test_readers_see_the_gap_as_a_line(long):
    lines = long.tail()

    last = lines[-1].sequence
    assert (last, lines[-1].message) == (103, "Finished.")
    assert is_accounted_for(lines)
    gaps = [each for each in lines if each.left_out]
    assert sum(each.left_out for each in gaps) == 103 - long.logs.count()
    first = gaps[0]
    assert first.message == f"… {first.left_out} lines left out …"
    assert (first.level, first.stream, first.pk) == ("warning", "system", None)
    assert lines[LIMIT // 2 - 1].message == f"line {LIMIT // 2 - 2}"
    notice = long.logs.get(stream="system", level="warning")
    assert "more than 40 lines" in notice.message
    assert [each.sequence for each in long.stream()] == [e.sequence for e in lines]
    assert is_accounted_for(long.tail(after=50), after=50)
    assert [e.left_out for e in long.tail(after=first.sequence - 3, limit=1)] == [3]


def test_pages_are_the_same_numbers_whatever_is_left_out(long):
    pages = [list(long.paginate_logs(page=n, per_page=10)) for n in range(1, 12)]

    assert is_accounted_for([each for page in pages for each in page])
    for number, page in enumerate(pages):
        assert is_accounted_for(page, after=10 * number)
    assert [each.left_out for each in pages[3]] == [10]
    assert pages[3][0].created is not None
    assert long.paginate_logs().paginator.count == 103


def test_each_run_has_a_head_and_a_tail_of_its_own(long):
    before = numbers(long)
    long.restart()
    long.execute()

    after = numbers(long)
    assert set(before) <= set(after)
    assert set(range(104, 104 + LIMIT // 2)) <= set(after)
    assert len(after) <= 2 * (LIMIT + 3)


def test_the_console_shows_gaps_whatever_is_looked_for(long, capsys):
    call_command("windlass_logs", "processes.Report", long.pk, "--grep", "nothing")
    shown = capsys.readouterr().out.splitlines()
    call_command("windlass_logs", "processes.Report", long.pk, "--json")
    said = [json.loads(each) for each in capsys.readouterr().out.splitlines()]

    assert shown
    assert all("left out" in each for each in shown)
    assert sum(each["left_out"] or 1 for each in said) == 103


def test_the_admin_and_the_browser_show_gaps(long, client, django_user_model):
    client.force_login(django_user_model.objects.create_superuser("boss"))
    change = reverse("admin:processes_report_change", args=[long.pk])
    log = reverse("windlass_processes:log", args=["processes.report", long.pk])
    stream = reverse(
        "windlass_processes:log_stream", args=["processes.report", long.pk]
    )

    assert "lines left out" in client.get(change).content.decode()
    assert "lines left out" in client.get(log).content.decode()
    events = b"".join(client.get(stream).streaming_content).decode()
    assert "lines left out" in events


def test_what_the_project_forbids_to_delete_stays(db, settings, caplog):
    settings.WINDLASS_PROCESSES = {"LOG_LIMIT": 10}
    export = Export.objects.create()
    writer = Writer(target_of(export), most=10)
    writer.write([line(f"line {n}") for n in range(9)])
    Bookmark.objects.create(line=export.logs.get(sequence=6))

    with caplog.at_level(logging.WARNING, logger="windlass"):
        for number in range(5):
            writer.write([line(f"then {number}")] * 5)
            writer.leave_out()

    (said,) = [r.getMessage() for r in caplog.records if "LOG_LIMIT" in r.msg]
    assert "processes.Export/" in said
    assert numbers(export) == list(range(1, writer.last + 1))


def test_what_the_supervision_says_is_stored_however_long_nobody_could(
    committed, monkeypatch
):
    from windlass.processes import collector

    monkeypatch.setattr(collector, "MOST", 5)
    report = Report.objects.create()
    collecting = Collector(target_of(report))
    for number in range(20):
        collecting.take([line(f"line {number}")])
    collecting.take([line("It ended.", stream=SYSTEM)])

    collecting.start()
    assert collecting.close()

    said = [each.message for each in report.logs.order_by("sequence")]
    assert said[:6] == [*(f"line {n}" for n in range(5)), "It ended."]
    assert said[6].startswith("15 lines are missing")


@once_in_all
@pytest.mark.parametrize("killed", ["run", "worker"])
def test_a_kill_leaves_head_and_tail(runtime, killed):  # noqa: F811
    started = runtime(LOG_LIMIT=LIMIT)
    report = Report.objects.create(kind="flood", given={"lines": 3_000})
    report.start()
    says(report, "Waiting.")
    report.refresh_from_db()
    before = numbers(report)
    (worker,) = started.worker()

    kill(report.worker_pid if killed == "run" else worker)

    assert ran(report).status == "failed"
    after = set(numbers(report))
    head, said = set(range(1, LIMIT // 2 + 1)), set(numbers(report, stream=SYSTEM))
    last = max(before)
    tail = set(range(last - 5, last + 1))
    assert head | tail <= after
    # A few lines more than the limit may be there until some are left out.
    assert len(after - said) <= LIMIT + LIMIT // 20
    assert is_accounted_for(report.tail())
    assert "Waiting." in [each.message for each in report.tail()]


@once_in_all
def test_a_follower_sees_what_is_said_behind_the_gap(runtime):  # noqa: F811
    runtime(LOG_LIMIT=LIMIT)
    report = Report.objects.create(kind="flood", given={"lines": 3_000})
    report.start()

    seen = []
    for each in report.stream():
        seen.append(each)
        if each.message == "Waiting.":
            report.cancel()

    assert is_accounted_for(seen)
    assert "Waiting." in [each.message for each in seen]
    most = LIMIT + len(numbers(report, stream=SYSTEM))
    eventually(lambda: len(numbers(report)) <= most)
