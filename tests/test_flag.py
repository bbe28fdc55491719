"""A flag that signal handlers raise."""

import signal
import threading
import time

import pytest

from windlass.runtime.flag import Flag


def test_a_flag_is_down_until_it_is_raised():
    flag = Flag()
    assert not flag.is_set()
    assert not flag.wait(0)
    flag.set()
    flag.set()
    assert flag.is_set()
    assert flag.wait(0)
    assert flag.wait(10)
    flag.clear()
    flag.clear()
    assert not flag.is_set()
    assert not flag.wait(-1)


def test_another_thread_ends_the_wait():
    flag = Flag()
    threading.Timer(0.05, flag.set).start()
    begun = time.monotonic()
    assert flag.wait(10)
    assert time.monotonic() - begun < 5


@pytest.mark.timeout(20, method="thread")
def test_a_signal_handler_may_raise_it_at_any_moment():
    # threading.Event does not survive this.
    flag = Flag()
    raised = 0

    def handler(*_):
        nonlocal raised
        raised += 1
        flag.set()

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
    try:
        while raised < 3000:
            flag.wait(0.001)
            flag.clear()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
