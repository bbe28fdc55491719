"""A judge who never finds fault is worth nothing: each broken promise is noticed."""

from collections import Counter
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from tests.faults import work
from tests.faults.crowds import Limits
from tests.faults.excuses import Faults
from tests.faults.executions import executions
from tests.faults.kinds import KINDS
from tests.faults.promises import About
from tests.faults.strikes import THRESHOLD, Strike
from tests.integration.project.journal import Line

NOON = 1_800_000_000.0
FIRST, SECOND = 100, 200


def line(event, second, *, attempt=1, pid=FIRST):
    return Line(event, "job", attempt, pid, 1, NOON + second, 1000.0 + second, "")


def strike(what, second, *, pid=FIRST, lasted=0.0):
    began = 1000.0 + second
    return Strike(what, frozenset([pid]), began, NOON + second, began + lasted)


def crash(attempt=1, *, cause="crashed", pid=FIRST, second=0):
    began = datetime.fromtimestamp(NOON + second, UTC).isoformat()
    said = f"The worker process {pid} is gone"
    entry = {"attempt": attempt, "cause": cause, "started_at": began}
    return {**entry, "error": "windlass.exceptions.X", "traceback": said}


def judge(task, lines, *, strikes=(), end="succeeded", finished=10, **known):
    """What the judge says of one job."""
    state, _, reason = end.partition(" ")
    job = {
        "id": "job",
        "task_path": task.module_path,
        "state": state,
        "reason": reason,
        "attempts": 1,
        "max_attempts": task.max_attempts,
        "crashes": 0,
        "history": None,
        "args": [1],
        "finished_at": datetime.fromtimestamp(NOON + finished, UTC),
        **known,
    }
    evidence = SimpleNamespace(
        faults=Faults(strikes, lines),
        cancelled={},
        effects=Counter(),
        children=Counter(),
        excused=Counter(),
    )
    return " ".join(About(job, lines, evidence).broken())


WHOLE = [line("start", 0), line("end", 1)]
OTHER = {"attempt": 2, "pid": SECOND}
AGAIN = [line("start", 0), line("start", 2, **OTHER), line("end", 2, **OTHER)]
KILLED = {"strikes": [strike("kill_one", 1)], "attempts": 2, "history": [crash()]}


def test_a_job_that_did_what_it_should_is_whole():
    assert judge(work.short_once, WHOLE) == ""


def test_a_job_that_was_killed_and_ran_again_is_whole():
    assert judge(work.short_again, AGAIN, **KILLED) == ""


def test_a_job_that_may_not_repeat_and_ends_with_its_process_is_whole():
    known = {**KILLED, "attempts": 1}
    assert judge(work.short_once, WHOLE[:1], end="failed crashed", **known) == ""


@pytest.mark.parametrize(
    ("said", "task", "lines", "known"),
    [
        ("has not ended", work.short_once, WHOLE, {"end": "ready"}),
        ("without an end", work.short_once, WHOLE[:1], {}),
        ("may not repeat", work.short_once, AGAIN, KILLED),
        ("nothing befell", work.short_again, AGAIN, {**KILLED, "strikes": []}),
        (
            "could run again",
            work.short_again,
            WHOLE[:1],
            {**KILLED, "attempts": 1, "end": "failed crashed"},
        ),
        (
            "had never started",
            work.short_once,
            [],
            {
                "strikes": [strike("kill_one", 1)],
                "end": "failed crashed",
                "history": [crash()],
            },
        ),
        ("history says otherwise", work.short_once, WHOLE, {"end": "failed lost"}),
        ("9 attempts of 5", work.short_again, WHOLE, {"attempts": 9}),
        ("ran attempt 2, of 1", work.short_again, AGAIN, {**KILLED, "attempts": 1}),
        (
            "after its end was recorded",
            work.short_again,
            AGAIN,
            {**KILLED, "finished": 1},
        ),
        ("lived for 0.500 s", work.short_once, WHOLE, {"finished": 0.5}),
        ("nobody cancelled", work.short_once, WHOLE, {"end": "cancelled cancelled"}),
        ("nobody discarded", work.short_once, [], {"end": "discarded"}),
        ("cannot succeed", work.hopeless, WHOLE, {}),
        ("enqueued 0 jobs", work.spread, WHOLE, {}),
    ],
)
def test_a_broken_promise_is_named(said, task, lines, known):
    assert said in judge(task, lines, **known)


def overlap(task, *strikes):
    """An attempt that goes on while the next one runs already."""
    lines = [line("start", 0), line("start", 8, **OTHER)]
    lines += [line("end", 9), line("end", 9.5, **OTHER)]
    history = [crash(cause="lost")]
    return judge(task, lines, strikes=strikes, attempts=2, history=history)


def test_attempts_may_overlap_only_if_a_process_stood_still_for_long():
    long = strike("freeze", 1, lasted=THRESHOLD + 1)
    brief = strike("freeze", 1, lasted=THRESHOLD / 2)

    assert overlap(work.short_again, long) == ""
    assert "overlapped by 1.000 s" in overlap(work.short_again, brief)
    assert "overlapped by 1.000 s" in overlap(work.short_again, strike("kill_one", 1))
    assert "may not repeat" in overlap(work.short_once, long)


def test_a_heartbeat_that_could_not_be_written_makes_a_brief_stand_still_long():
    brief = strike("freeze", 1, lasted=THRESHOLD / 2)
    away = Strike("restart_server", frozenset(), 1004.0, NOON + 4, 1008.0)

    assert overlap(work.short_again, brief, away) == ""


def crowd(*jobs, strikes=()):
    """What is said of jobs of one limit, of which two may run at a time."""
    lines = [each for job in jobs for each in job]
    limits = Limits(Faults(strikes, lines))
    for own in jobs:
        job = {"task_path": work.in_pairs.module_path, "args": [1, 0.1]}
        about = SimpleNamespace(
            job=job, kind=KINDS[job["task_path"]], runs=executions(own)
        )
        limits.note(about)
    return " ".join(limits.broken())


def test_more_jobs_than_a_limit_allows_are_counted():
    third = [line("start", 0.5, **OTHER), line("end", 2, **OTHER)]
    late = [line("start", 1, **OTHER), line("end", 2, **OTHER)]
    frozen = strike("freeze", 0.9, pid=SECOND, lasted=THRESHOLD + 1)

    assert crowd(WHOLE, WHOLE, late) == ""
    assert "3 of 2 ran at a time, in_pairs 1" in crowd(WHOLE, WHOLE, third)
    assert crowd(WHOLE, WHOLE, third, strikes=[frozen]) == ""


def test_the_time_of_day_means_nothing_while_the_clock_is_set():
    known = {"finished": -600, "strikes": [strike("step_clock", 0, lasted=2)]}

    assert judge(work.short_once, WHOLE, **known) == ""
