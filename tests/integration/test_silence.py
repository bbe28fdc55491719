"""Nodes that live and could not say so: nobody takes their work away."""

from contextlib import contextmanager

from django.db import connection, transaction

from tests.integration.project import tasks
from tests.integration.runtime import QUICK, workers
from tests.integration.states import job
from tests.waiting import eventually, never
from windlass.models import Node

ONE_THREAD = workers(threads=1)
# More than makes a node look dead, and time for those who look to act on it.
TOO_LONG = 2 * QUICK["process_alive_threshold"]
# A new janitor trusts no heartbeat for this long.
GRACE = 2 * QUICK["process_heartbeat_interval"] + 5.5


def test_a_lock_that_keeps_all_from_beating_makes_nobody_look_dead(
    start, journal, tmp_path
):
    result = tasks.wait_for.enqueue(str(tmp_path / "gate"))
    runtimes = [start(options=ONE_THREAD) for _ in range(2)]
    eventually(lambda: Node.objects.count() == 4 and journal.starts())
    pids = [runtime.worker() for runtime in runtimes]
    never(lambda: job(result).state != "running", during=GRACE)

    with nodes_locked():
        never(lambda: False, during=TOO_LONG)

    never(lambda: job(result).state != "running", during=1)
    (tmp_path / "gate").touch()
    eventually(lambda: job(result).state == "succeeded")
    assert [runtime.worker() for runtime in runtimes] == pids
    assert not any("is gone" in runtime.said() for runtime in runtimes)


@contextmanager
def nodes_locked():
    """Hold a lock, as a migration does, that no heartbeat gets past."""
    if connection.vendor == "mysql":
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLES windlass_node WRITE")
            yield
            cursor.execute("UNLOCK TABLES")
        return
    # On SQLite that is the file's, as soon as a transaction may write.
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("LOCK TABLE windlass_node")
        yield
