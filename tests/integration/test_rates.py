"""A rate limit seen from outside: when the tasks of several runtimes began."""

from tests.integration.project import tasks
from tests.integration.runtime import kill, workers
from tests.integration.states import states
from tests.waiting import eventually

# From the decision to the first line of a task, on a busy machine.
SLACK = 0.5


def most_in(span, times):
    return max(sum(a <= b < a + span for b in times) for a in times)


def test_two_runtimes_keep_to_a_rate_together_though_one_is_killed(start, journal):
    for number in range(30):
        tasks.rated.enqueue(str(number))
    first = start(options=workers(threads=2))
    second = start(options=workers(threads=2))
    first.worker()
    second.worker()

    eventually(lambda: len(journal.lines("start")) >= 8)
    for pid in first.worker():
        kill(pid)

    eventually(lambda: states() == {"succeeded": 30})
    begun = sorted(line.tick for line in journal.lines("start"))
    assert most_in(2.0 - SLACK, begun) <= 6
    # Nor slower than it had to be: the last of five spans began after eight seconds.
    assert begun[-1] - begun[0] < 16
