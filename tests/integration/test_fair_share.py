"""Fair share seen from outside: in which order tasks of two tenants began."""

from collections import Counter

from tests.integration.project import tasks
from tests.integration.runtime import workers
from tests.integration.states import states
from tests.waiting import eventually
from windlass.tasks_api import default_task_backend


def test_the_few_jobs_of_one_tenant_begin_among_the_many_of_another(start, journal):
    default_task_backend.enqueue_all([(tasks.fair, ["big"], {})] * 600)
    default_task_backend.enqueue_all([(tasks.fair, ["small"], {})] * 5)

    start("--drain", options=workers(threads=2)).wait(60)

    assert states() == {"succeeded": 605}
    # While nothing is known of how long jobs take, a worker claims a few for a thread.
    assert Counter(journal.labels()[:30])["small"] == 5


def test_a_tenant_who_comes_later_does_not_wait_for_the_others(start, journal):
    start(options=workers(threads=2)).worker()
    calls = [(tasks.fair, ["big"], {"seconds": 0.02})] * 1000
    default_task_backend.enqueue_all(calls)
    eventually(lambda: len(journal.starts()) > 50)

    before = len(journal.starts())
    tasks.fair.enqueue("late")
    eventually(lambda: "late" in journal.labels())

    assert journal.labels().index("late") < before + 150
