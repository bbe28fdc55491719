"""Backoff: what a policy may be, and the wait it gives."""

import logging
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass import Retry, exponential
from windlass.jobs.retries import DEFAULT_BACKOFF, delay_after, seconds


class Result:
    id = "an id"

    def __init__(self, attempts=1):
        self.attempts = attempts


def linear(exception, task_result):
    return 10 * task_result.attempts


def stop(exception, task_result):
    return None


def broken(exception, task_result):
    raise KeyError("broken backoff")


def leaving(exception, task_result):
    raise SystemExit


SEVEN = 7
ERROR = ValueError()


@pytest.mark.parametrize(
    ("backoff", "delay"),
    [
        *[(0, 0.0), (5, 5.0), (2.5, 2.5), (timedelta(minutes=1), 60.0)],
        *[(linear, 20.0), ("tests.test_backoff.linear", 20.0), (stop, None)],
        *[("tests.test_backoff.SEVEN", 7.0), ("tests.test_backoff.stop", None)],
        (lambda error, result: timedelta(seconds=result.attempts), 2.0),
    ],
)
def test_a_backoff_may_be_given_in_any_of_these_shapes(backoff, delay):
    assert delay_after(backoff, ERROR, Result(2)) == delay


@pytest.mark.parametrize(
    "backoff",
    [
        *[broken, leaving, "tests.test_backoff.nothing", "no.such.module", "nodots"],
        *[lambda error, result: "soon", lambda error, result: -5, lambda: 1],
        lambda error, result: float("nan"),
    ],
)
def test_a_backoff_that_fails_is_logged_and_the_default_is_used(backoff, caplog):
    with caplog.at_level(logging.ERROR, "windlass"):
        delay = delay_after(backoff, ERROR, Result(3))

    assert 0 <= delay <= 4
    (record,) = caplog.records
    assert "its backoff" in record.getMessage()
    assert record.exc_info


def test_a_delay_that_the_task_asks_for_wins():
    assert delay_after(stop, Retry(5), Result()) == 5.0
    assert delay_after(stop, Retry(), Result()) is None
    assert delay_after(stop, Retry(0), Result()) == 0.0


def test_no_backoff_means_exponential():
    assert 0 <= delay_after(None, ERROR, Result(1)) <= 1
    assert 0 <= delay_after(None, ERROR, Result(4)) <= 8


def test_exponential_doubles_up_to_its_ceiling():
    backoff = exponential(first=5, ceiling=600, jitter=False)

    delays = [backoff(ERROR, Result(n)) for n in range(1, 10)]

    assert delays == [5, 10, 20, 40, 80, 160, 320, 600, 600]
    assert repr(backoff) == "exponential(first=5, ceiling=600)"


@given(
    first=st.floats(0, 1e6),
    ceiling=st.floats(0, 1e9),
    factor=st.floats(0, 1e9),
    attempt=st.integers(1, 10_000),
    drawn=st.floats(0, 1, exclude_max=True),
)
def test_exponential_stays_between_zero_and_its_ceiling(
    first, ceiling, factor, attempt, drawn
):
    backoff = exponential(first, ceiling, factor=factor)

    delay = backoff.after(attempt, draw=lambda: drawn)

    assert 0 <= delay <= ceiling
    assert seconds(delay, "it") == delay


@pytest.mark.parametrize("wrong", [-1, "1", None, float("inf"), True])
def test_an_exponential_that_means_nothing_is_refused(wrong):
    with pytest.raises((TypeError, ValueError), match=r"exponential\(first\)"):
        exponential(first=wrong)
    with pytest.raises((TypeError, ValueError), match=r"exponential\(factor\)"):
        exponential(factor=wrong)


def test_equal_backoffs_are_equal():
    assert exponential() == DEFAULT_BACKOFF
    assert len({exponential(), exponential(first=2), exponential()}) == 2
