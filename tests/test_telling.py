"""What a project is told of the runtime, and that what it does then breaks nothing."""

import sys

import pytest

from windlass import conf, db, hooks
from windlass.exceptions import ConfigurationError
from windlass.jobs.wakeups import SOMETHING
from windlass.models import Node
from windlass.runtime.node import Lease
from windlass.runtime.telling import tell_error, tell_hooks, told

BACKEND = "windlass.backend.WindlassBackend"


@pytest.fixture
def registry(monkeypatch):
    """A registry without the hooks of other tests."""
    monkeypatch.setattr(hooks, "_registered", {name: [] for name in hooks._registered})


def options(**said):
    return conf.parse("default", {"BACKEND": BACKEND, "OPTIONS": said})


def test_hooks_are_called_in_order_with_the_part(registry):
    called = []
    for number in range(3):
        hooks.register_hook("worker.start")(
            lambda part, n=number: called.append((n, part))
        )

    tell_hooks(options(), "worker", "start", "worker-1.1", queues=("mail",))

    assert [number for number, _part in called] == [0, 1, 2]
    part = called[0][1]
    assert (part.kind, part.name, part.backend) == ("worker", "worker-1.1", "default")
    assert part.metadata == {"queues": ("mail",)}


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3)])
def test_a_hook_that_raises_is_told_and_stops_nothing(registry, caplog, error):
    called, errors = [], []

    def fails(part):
        raise error

    hooks.register_hook("worker.start")(fails)
    hooks.register_hook("worker.start")(called.append)

    tell_hooks(options(on_thread_error=errors.append), "worker", "start", "w")

    assert len(called) == 1
    assert errors == [error]
    assert "a hook for worker.start failed" in caplog.text


def test_an_error_callback_that_exits_is_contained(caplog):
    tell_error(options(on_thread_error=lambda error: sys.exit(1)), ValueError("x"))

    assert "on_thread_error" in caplog.text


def test_the_error_that_ends_a_part_is_told_and_raised(registry):
    errors, called = [], []
    hooks.register_hook("worker.exit")(called.append)

    with pytest.raises(ValueError, match="gone"):
        with told(options(on_thread_error=errors.append), "worker", "w"):
            raise ValueError("gone")

    assert [str(error) for error in errors] == ["gone"]
    assert len(called) == 1


def test_a_hook_nobody_calls_is_refused_with_the_nearest():
    with pytest.raises(ConfigurationError, match=r'did you mean "worker\.start"'):
        hooks.register_hook("worker.begin_start")


def test_every_decorator_registers_what_its_name_says(registry):
    for kind in hooks.KINDS:
        for event in hooks.EVENTS:
            prefix = "" if kind == "supervisor" else f"{kind}_"

            def mark(part):
                pass

            assert getattr(hooks, f"on_{prefix}{event}")(mark) is mark
            assert hooks.registered(kind, event) == (mark,)


@pytest.mark.django_db(transaction=True)
def test_a_heartbeat_that_fails_is_told_and_ends_its_part(monkeypatch):
    errors, reasons = [], []
    lease = Lease(
        options(on_thread_error=errors.append, wakeup="poll"),
        kind=Node.Kind.WORKER,
        name="worker-1.1",
        supervisor_pid=None,
        details=dict,
        wake=lambda: None,
        lost=reasons.append,
    )
    failure = ValueError("not about the database")

    def fails():
        raise failure

    monkeypatch.setattr(lease, "_beat", fails)
    lease.start()
    lease.thread.join(10)

    assert errors == [failure]
    assert reasons == ["its heartbeat failed"]


@pytest.mark.django_db(transaction=True)
def test_a_worker_is_woken_for_the_queues_that_it_serves_and_for_no_others():
    woken = []
    lease = Lease(
        options(wakeup="poll"),
        kind=Node.Kind.WORKER,
        name="worker-1.1",
        supervisor_pid=None,
        details=dict,
        wake=lambda: woken.append(lease.ear.note),
        lost=woken.append,
        queues=["mail", "in.*"],
    )

    class Ear:
        def wait(self, seconds):
            return [self.note]

    lease.ear = Ear()
    for lease.ear.note in ("default", "mail", "mailing", "in.a", db.CANCEL, SOMETHING):
        lease._wait(0)

    assert woken == ["mail", "in.a", SOMETHING]
