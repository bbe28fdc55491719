"""With DEBUG, the log of SQL shows what tasks ask the database."""

import pytest
from django.db import connection

from tests.integration.project import tasks
from tests.integration.runtime import workers
from tests.integration.states import job, states
from tests.waiting import eventually

LOGGED = {"WINDLASS_TEST_DEBUG": "1", "WINDLASS_TEST_LOG_SQL": "1"}


def test_what_a_task_asks_in_a_process_of_its_own_is_logged(start, journal):
    runtime = start("--no-autoreload", options=workers(threads=1), **LOGGED)
    tasks.enqueue_in_process.enqueue()
    eventually(lambda: states().get("succeeded", 0) >= 2)

    assert runtime.stop() == 0

    assert "INSERT INTO windlass_live" in runtime.said()


@pytest.mark.skipif(connection.vendor == "sqlite", reason="it has no such setting")
@pytest.mark.parametrize("name", ["longest_idle", "longest_idle_in_process"])
def test_sessions_of_tasks_are_as_the_project_has_them(start, name):
    result = getattr(tasks, name).enqueue()

    assert start("--drain").wait() == 0

    assert job(result).return_value == "0"


@pytest.mark.parametrize("mode", ["fork", "async"])
@pytest.mark.parametrize("silent", [True, False])
def test_what_the_runtime_itself_asks_is_logged_if_it_is_wanted(
    start, journal, silent, mode
):
    options = {**workers(threads=1), "silence_polling": silent, "mode": mode}
    runtime = start("--no-autoreload", options=options, **LOGGED)
    # It enqueues, which asks the database from the thread of a task.
    tasks.enqueue_more.enqueue(1, 0)
    eventually(lambda: states().get("succeeded", 0) >= 2)
    eventually(lambda: len(journal.ends()) >= 1)

    assert runtime.stop() == 0

    said = runtime.said()
    assert ("windlass_node" in said) is not silent
    assert "INSERT INTO windlass_live" in said
