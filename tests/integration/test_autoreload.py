"""Under DEBUG the runtime starts again when code changes."""

import signal

import pytest
from django.db import connection

from tests.waiting import eventually

pytestmark = pytest.mark.skipif(
    connection.vendor != "sqlite", reason="it is the same on every database"
)


@pytest.fixture
def reloading(start, tmp_path):
    """A runtime under DEBUG, and a module of its project that a test may change."""
    module = tmp_path / "code" / "changing" / "tasks.py"
    module.parent.mkdir(parents=True)
    (module.parent / "__init__.py").touch()
    module.write_text("number = 1\n")

    def reloading():
        import os

        path = os.pathsep.join([str(tmp_path / "code"), os.getcwd()])
        runtime = start(
            WINDLASS_TEST_DEBUG="1", WINDLASS_TEST_APPS="changing", PYTHONPATH=path
        )
        eventually(lambda: hellos(runtime) == 1)
        return runtime, module

    return reloading


def hellos(runtime):
    return runtime.said().count("Windlass 0.")


def workers_of(runtime):
    from windlass.models import Node

    return list(Node.objects.filter(kind="worker").values_list("pid", flat=True))


def test_a_change_restarts_the_runtime_and_one_ctrl_c_ends_it(reloading):
    runtime, module = reloading()
    before = eventually(lambda: workers_of(runtime))

    module.write_text("number = 22\n")

    eventually(lambda: hellos(runtime) == 2)
    eventually(lambda: workers_of(runtime) not in ([], before))
    assert "tasks.py changed" in runtime.said()
    runtime.send_to_group(signal.SIGINT)
    assert runtime.wait(10) == 0
    assert not runtime.processes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_reloader_alone_ends_the_runtime(reloading, number):
    runtime, _module = reloading()
    eventually(lambda: workers_of(runtime))

    assert runtime.stop(number, timeout=10) == 0
    assert not runtime.processes()


def test_ctrl_c_during_a_restart_ends_it_too(reloading):
    runtime, module = reloading()
    eventually(lambda: workers_of(runtime))

    module.write_text("number = 333\n")
    eventually(lambda: "changed, restarting" in runtime.said())
    runtime.send_to_group(signal.SIGINT)

    assert runtime.wait(10) == 0
    assert not runtime.processes()


def test_the_runtime_ends_when_its_reloader_is_killed(reloading):
    runtime, _module = reloading()
    eventually(lambda: workers_of(runtime))

    runtime.send(signal.SIGKILL)

    eventually(lambda: not runtime.processes())
