"""In which order jobs start: selectors, then priority, then age."""

from datetime import timedelta

import pytest

from tests.integration.project import tasks
from tests.integration.runtime import workers
from tests.integration.states import job, states
from tests.waiting import eventually
from windlass.tasks_api import task_backends


def enqueue(label, *, queue="default", priority=0):
    work = tasks.work.using(queue_name=queue, priority=priority)
    return work.enqueue(label=label)


def drained(start, journal, *arguments):
    """The labels in the order in which one thread started them."""
    runtime = start("--drain", *arguments, options=workers(threads=1))
    assert runtime.wait() == 0
    return journal.labels()


def test_the_order_of_selectors_wins_over_priority(start, journal):
    enqueue("other", queue="other", priority=100)
    enqueue("import-b", queue="import_b", priority=5)
    enqueue("import-a", queue="import_a", priority=50)
    enqueue("mail", queue="mail", priority=-100)

    order = drained(start, journal, "--queues", "mail,import*,*")

    assert order == ["mail", "import-a", "import-b", "other"]


def test_priority_wins_over_age_and_age_decides_the_rest(start, journal):
    for number in range(3):
        enqueue(f"low-{number}", priority=-5)
    for number in range(3):
        enqueue(f"high-{number}", priority=5)

    order = drained(start, journal)

    assert order == [f"{kind}-{n}" for kind in ("high", "low") for n in range(3)]


def test_a_bulk_is_first_in_first_out(start, journal):
    calls = [(tasks.work, [0.0, str(number)], {}) for number in range(300)]
    task_backends["default"].enqueue_all(calls)

    assert drained(start, journal) == [str(number) for number in range(300)]


def test_queues_that_no_selector_covers_are_left_alone(start, journal):
    enqueue("mine", queue="mine")
    enqueue("exact", queue="min")
    enqueue("theirs", queue="theirs")

    assert set(drained(start, journal, "--queues", "mi*")) == {"mine", "exact"}
    assert states() == {"succeeded": 2, "ready": 1}


def test_workers_of_several_kinds_serve_their_own_queues(start, journal):
    enqueue("mail", queue="mail")
    enqueue("heavy", queue="heavy")

    start(options={"workers": [{"queues": ["mail"]}, {"queues": ["heavy"]}]})

    eventually(lambda: states() == {"succeeded": 2})
    assert len({line.pid for line in journal.starts()}) == 2


@pytest.mark.parametrize("delay", [1.0])
def test_a_scheduled_job_starts_when_it_is_due(start, journal, delay):
    runtime = start()
    runtime.worker()

    later = tasks.work.using(run_after=timedelta(seconds=delay)).enqueue()
    due = job(later).run_after.timestamp()
    assert job(later).state == "scheduled"

    (line,) = eventually(lambda: journal.starts(later.id))
    assert 0 <= line.time - due < 0.5
