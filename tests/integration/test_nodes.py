"""Each process of the runtime is a node: it beats while it lives, then leaves."""

from tests.integration.project import tasks
from tests.integration.runtime import is_running, workers
from tests.integration.states import job, ledgers
from tests.waiting import eventually
from windlass.models import Node


def test_nodes_register_beat_and_leave(start):
    runtime = start(options=workers(processes=2))
    pids = runtime.worker(2)
    (dispatcher,) = eventually(lambda: runtime.nodes(Node.Kind.DISPATCHER))

    assert all(map(is_running, [*pids, dispatcher.pid]))
    eventually(lambda: all(path.exists() for path in ledgers()))
    paths = ledgers()
    first = {node.pk: node.heartbeat_at for node in Node.objects.all()}
    eventually(
        lambda: all(node.heartbeat_at > first[node.pk] for node in Node.objects.all())
    )

    assert runtime.stop() == 0
    assert not Node.objects.exists()
    assert not runtime.processes()
    assert len(paths) == 2
    assert not any(path.exists() for path in paths)


def test_a_node_whose_row_is_removed_stops_and_is_replaced(start, journal):
    runtime = start()
    (pid,) = runtime.worker()

    Node.objects.filter(pid=pid).delete()

    eventually(lambda: not is_running(pid))
    eventually(lambda: runtime.nodes() and runtime.nodes()[0].pid != pid)
    result = tasks.work.enqueue()
    eventually(lambda: job(result).state == "succeeded")
    assert "its row was removed" in runtime.said()


def test_a_dispatcher_whose_row_is_removed_is_replaced(start):
    runtime = start()
    (before,) = eventually(lambda: runtime.nodes(Node.Kind.DISPATCHER))

    Node.objects.filter(pk=before.pk).delete()

    eventually(lambda: runtime.nodes(Node.Kind.DISPATCHER))
    eventually(lambda: not is_running(before.pid))


def test_only_work_and_only_dispatch(start):
    workers_only, dispatcher_only = start("--only-work"), start("--only-dispatch")

    workers_only.worker()
    eventually(lambda: dispatcher_only.nodes(Node.Kind.DISPATCHER))

    assert not workers_only.nodes(Node.Kind.DISPATCHER)
    assert not dispatcher_only.nodes()
    assert workers_only.stop() == dispatcher_only.stop() == 0
