"""The janitor: who finds what nobody does any more, and when."""

import os
import time
from datetime import timedelta

import pytest
from django.utils import timezone

from tests import tasks
from windlass import conf
from windlass.db import Lane, dialect
from windlass.jobs import lifecycle
from windlass.models import Job, LiveJob, Node
from windlass.runtime import identity
from windlass.runtime.janitor import Janitor
from windlass.runtime.recovery import Recovery

pytestmark = pytest.mark.django_db(transaction=True)

NOBODY = 2**22 + 1  # above the highest pid that Linux gives


@pytest.fixture
def node():
    """Register a node; by default one of this host whose process is gone."""

    def node(id, **columns):
        now = timezone.now()
        values = {
            "kind": "worker",
            "backend_alias": "default",
            "name": f"worker-{id}",
            "host": identity.host(),
            "pid": NOBODY,
            "started_at": now,
            "heartbeat_at": now,
            "version": "0",
        }
        return Node.objects.create(id=id, **{**values, **columns})

    return node


@pytest.fixture
def held():
    """Enqueue a job and let a node hold it."""

    def held(node):
        result = tasks.add.enqueue(1, 2)
        lifecycle.claim(dialect("default"), node, "default", [Lane("default", 0)], 1)
        return result

    return held


@pytest.fixture
def recovery():
    return Recovery(conf.options("default"))


def outcome(result):
    job = Job.objects.get(pk=result.id)
    return job.state, job.reason


def test_a_dead_process_of_this_host_is_recovered_at_once(node, held, recovery):
    node(1)
    result = held(1)

    assert recovery.dead_children() == 1

    assert outcome(result) == ("failed", "crashed")
    assert not Node.objects.exists()


def test_living_processes_and_other_hosts_are_left_alone(node, held, recovery):
    pid = os.getpid()
    node(1, pid=pid, process_started=identity.process_start(pid))
    node(2, host="elsewhere")
    node(3, backend_alias="other")
    results = [held(1), held(2), held(3)]

    assert recovery.dead_children() == 0

    assert {outcome(r) for r in results} == {("running", "")}
    assert Node.objects.count() == 3


def test_a_fresh_death_is_left_to_a_supervisor_that_lives(node, held, recovery):
    pid = os.getpid()
    born = identity.process_start(pid)
    node(1, supervisor_pid=pid, process_started=born + 1)
    result = held(1)

    assert recovery.dead_children() == 0

    Node.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=29))
    assert recovery.dead_children() == 1
    assert outcome(result) == ("failed", "crashed")


def test_a_supervisor_younger_than_the_node_is_another_process(node, recovery):
    pid = os.getpid()
    node(1, supervisor_pid=pid, process_started=identity.process_start(pid) - 1)

    recovery.dead_children()

    assert not Node.objects.exists()


def test_an_old_heartbeat_is_a_dead_host(node, held, recovery):
    node(1, host="elsewhere", heartbeat_at=timezone.now() - timedelta(seconds=31))
    node(2, host="elsewhere", heartbeat_at=timezone.now() - timedelta(seconds=20))
    lost, kept = held(1), held(2)

    assert recovery.silent_nodes() == 1

    assert outcome(lost) == ("failed", "lost")
    assert outcome(kept) == ("running", "")
    assert [n.pk for n in Node.objects.all()] == [2]


def test_a_node_that_beats_in_the_meantime_is_kept(node, held, recovery, monkeypatch):
    row = node(1, host="elsewhere", heartbeat_at=timezone.now() - timedelta(seconds=31))
    held(1)
    took_over = recovery._take_over

    def beat_first(*args, **kwargs):
        Node.objects.filter(pk=row.pk).update(heartbeat_at=timezone.now())
        return took_over(*args, **kwargs)

    monkeypatch.setattr(recovery, "_take_over", beat_first)

    assert recovery.silent_nodes() == 0
    assert Node.objects.exists()
    assert LiveJob.objects.running().count() == 1


def test_a_rescuer_that_fails_in_the_middle_has_done_nothing(
    node, held, recovery, monkeypatch
):
    node(1)
    held(1)

    def fail(*args, **kwargs):
        raise RuntimeError("killed here")

    with monkeypatch.context() as patch:
        patch.setattr(lifecycle, "rescue", fail)
        with pytest.raises(RuntimeError):
            recovery.dead_children()

    assert Node.objects.exists()
    assert recovery.dead_children() == 1


def test_a_claim_that_commits_after_the_recovery_is_found_by_the_second_look(
    node, held, recovery
):
    node(1)
    recovery.dead_children()
    result = held(1)

    assert recovery.look_again() == 1

    assert outcome(result) == ("failed", "crashed")
    assert recovery.look_again() == 0


def test_a_claim_of_a_node_that_nobody_knows_is_found_by_the_sweep(held, recovery):
    result = held(77)

    assert recovery.unregistered_holders() == 1

    assert outcome(result) == ("failed", "lost")
    error = Job.objects.get(pk=result.id).errors[0]
    assert error.exception_class_path.endswith("ProcessMissingError")


def test_heartbeats_are_not_trusted_right_after_the_database_returned(node, held):
    node(1, host="elsewhere", heartbeat_at=timezone.now() - timedelta(seconds=90))
    result = held(1)
    janitor = Janitor(conf.options("default"))

    janitor.tick()
    assert outcome(result) == ("running", "")

    janitor._trust_heartbeats_from = 0
    janitor.tick()
    assert outcome(result) == ("failed", "lost")


def test_heartbeats_are_not_trusted_by_one_that_could_not_beat_itself(node, held):
    options = conf.options("default")
    late = [2.5 * options.process_heartbeat_interval]
    node(1, host="elsewhere", heartbeat_at=timezone.now() - timedelta(seconds=90))
    result = held(1)
    janitor = Janitor(options, lateness=lambda: late[0])
    janitor._trust_heartbeats_from = 0

    janitor.tick()
    assert outcome(result) == ("running", "")

    # It beats again, and gives the others the time to do so.
    late[0] = 0.1
    janitor.tick()
    assert outcome(result) == ("running", "")
    janitor._trust_heartbeats_from = 0
    janitor.tick()
    assert outcome(result) == ("failed", "lost")


@pytest.mark.parametrize(
    ("slept", "set_by"), [(100, 100), (0.2, 100), (0.2, -100)], ids=str
)
def test_heartbeats_are_not_trusted_after_time_has_jumped(node, held, slept, set_by):
    node(1, host="elsewhere", heartbeat_at=timezone.now() - timedelta(seconds=90))
    result = held(1)
    janitor = Janitor(conf.options("default"))
    janitor._trust_heartbeats_from = 0
    # As if the last look had been made before all slept, or before a clock was set.
    then = timezone.now() - timedelta(seconds=set_by)
    janitor._looked = (time.monotonic() - slept, then)

    janitor.tick()
    assert outcome(result) == ("running", "")

    janitor._trust_heartbeats_from = 0
    janitor.tick()
    assert outcome(result) == ("failed", "lost")


def test_leaving_it_takes_the_second_look_at_once(node, held):
    node(1)
    janitor = Janitor(conf.options("default"))
    janitor.tick()
    result = held(1)

    janitor.leave()

    assert outcome(result) == ("failed", "crashed")
