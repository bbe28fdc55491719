"""What an atomic task writes is there if and only if its job has succeeded."""

from collections import Counter

import pytest
from django.db import connection

from tests.integration.project import stubborn
from tests.integration.runtime import kill, workers
from tests.integration.states import job, states
from tests.waiting import eventually


@pytest.fixture
def effects(committed):
    """How many effects each job has had, in a table of their own."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE effects (job varchar(64))")

    def effects():
        with connection.cursor() as cursor:
            cursor.execute("SELECT job FROM effects")
            return Counter(id for (id,) in cursor.fetchall())

    yield effects
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE effects")


def test_effects_and_end_are_committed_together(start, journal, effects):
    good = [stubborn.write.enqueue(), stubborn.write_in_process.enqueue()]
    bad = stubborn.write_and_fail.enqueue()

    runtime = start("--drain", options=workers(threads=2))

    assert runtime.wait() == 0, runtime.said()
    assert states() == {"succeeded": 2, "failed": 1}
    assert effects() == {result.id: 1 for result in good}
    assert "after the effect" in job(bad).errors[0].traceback
    assert "taken over" not in runtime.said()


def test_a_kill_in_between_leaves_one_effect_in_the_end(start, journal, effects):
    results = [stubborn.write.enqueue(0.3) for _ in range(4)]
    runtime = start(options=workers(threads=1))
    for started in (1, 2):
        eventually(lambda started=started: len(journal.starts()) == started)
        kill(runtime.worker()[0])

    eventually(lambda: states() == {"succeeded": 4})

    assert effects() == {result.id: 1 for result in results}
    assert runtime.stop() == 0
