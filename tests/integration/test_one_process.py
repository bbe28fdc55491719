"""Mode ``async``: one process, nobody above it; timeouts and cancels hold there too."""

import pytest

from tests.integration.project import stubborn, tasks
from tests.integration.runtime import once_in_all, workers
from tests.integration.states import job, states
from tests.waiting import eventually
from windlass import api

pytestmark = once_in_all

OPTIONS = {
    **workers(threads=2),
    "mode": "async",
    "stop_grace": 0.5,
    "shutdown_timeout": 2,
}


@pytest.mark.parametrize("name", ["spin", "swim", "process"])
def test_a_timeout_ends_the_code(start, journal, name):
    runtime = start(options=OPTIONS)
    result = getattr(stubborn, name).enqueue()

    eventually(lambda: job(result).state == "failed")

    assert job(result).reason == "timeout"
    after = tasks.work.enqueue()
    eventually(lambda: job(after).state == "succeeded")
    assert runtime.stop() == 0


def test_a_running_job_can_be_cancelled(start, journal):
    runtime = start(options=OPTIONS)
    result = stubborn.endless.enqueue()
    eventually(lambda: journal.starts(result.id))

    api.cancel_job(result.id)

    eventually(lambda: job(result).state == "cancelled")
    assert runtime.stop() == 0


def test_code_that_does_not_end_ends_the_process_and_the_next_one_says_why(
    start, journal
):
    runtime = start(options=OPTIONS)
    result = stubborn.swallow.enqueue()

    assert runtime.wait(15) == 1
    assert job(result).state == "running"
    start(options=OPTIONS)

    eventually(lambda: states() == {"failed": 1})
    assert job(result).reason == "timeout"
