"""Worker processes that have done their share are replaced, and no job notices."""

from tests.integration.project import tasks
from tests.integration.runtime import once_in_all, workers
from tests.integration.states import job, states
from tests.waiting import eventually

pytestmark = once_in_all


def test_a_worker_is_replaced_after_its_number_of_jobs(start, journal):
    results = [tasks.work.enqueue() for _ in range(60)]
    runtime = start(options=workers(threads=2, max_jobs=10))

    eventually(lambda: states() == {"succeeded": 60})

    assert len({line.pid for line in journal.starts()}) >= 3
    assert {job(result).attempts for result in results} == {1}
    assert "replacing" not in runtime.said()
    assert runtime.stop() == 0


def test_a_worker_that_has_grown_is_replaced(start, journal):
    runtime = start(options=workers(threads=1, max_memory="1M"))
    (first,) = runtime.worker()
    tasks.work.enqueue()

    eventually(lambda: runtime.worker() not in ([], [first]))
    eventually(lambda: states() == {"succeeded": 1})
    assert runtime.stop() == 0


def test_a_drain_goes_on_with_fresh_workers(start, journal):
    for _ in range(40):
        tasks.work.enqueue()

    assert start("--drain", options=workers(threads=1, max_jobs=10)).wait(30) == 0

    assert states() == {"succeeded": 40}
