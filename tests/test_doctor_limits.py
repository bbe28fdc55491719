"""What the doctor says of concurrency limits and of fair shares."""

import uuid
from datetime import timedelta

import pytest

from tests.contract.rows import NODE
from tests.fair_tasks import export
from tests.limited_tasks import one
from tests.running import make_claimer
from windlass import api, conf, db
from windlass.jobs.limits import Limits
from windlass.management.doctor import CHECKS
from windlass.models import LiveJob, Node, Slot, Waiter

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def node():
    """The node that holds jobs in these tests, alive."""
    now = db.dialect("default").now()
    return Node.objects.create(
        id=NODE,
        kind=Node.Kind.WORKER,
        backend_alias="default",
        name="worker",
        host="here",
        pid=1,
        started_at=now,
        heartbeat_at=now,
        version="1",
    )


@pytest.fixture
def jobs(node):
    """Three jobs of one key, of which the first runs."""
    results = [one.enqueue(number) for number in range(3)]
    make_claimer(db.dialect("default"), NODE, Limits("default", {})).claim(10)
    return results


def found(check="limits"):
    return [(f.level, f.says) for f in CHECKS[check](conf.options("default"))]


def test_without_limits_there_is_nothing_to_say():
    assert found() == [("ok", "Nobody waits for a key.")]
    assert found("shares") == []


def test_the_fullest_keys_are_named_with_the_age_of_the_next(jobs):
    Waiter.objects.create(
        job=uuid.uuid4(),
        key="other",
        nice=0,
        enqueued_at=db.dialect("default").now(),
    )
    Slot.objects.create(key="other", number=0, job=jobs[0].id, claim=1)
    since = LiveJob.objects.get(pk=jobs[1].id).enqueued_at

    (level, first), (_level, second) = found()

    assert level == "ok"
    assert first == f"2 wait for 'one', the next since {since}; 1 places are taken."
    assert second.startswith("1 wait for 'other'")


def test_a_key_that_is_waited_for_in_vain_is_a_warning(jobs):
    Slot.objects.all().delete()

    level, said = found()[0]

    assert level == "warning"
    assert said == "Jobs wait for 1 keys of which no place is taken: 'one'."

    # Nobody is to start those of a paused queue.
    api.QueueInfo("default").pause()
    ((level, said),) = found()
    assert level == "ok"
    assert said.endswith("its queue is paused.")


def test_places_that_belong_to_no_claim_are_a_warning(jobs):
    Slot.objects.update(claim=7)

    said = "1 places of keys belong to jobs that nobody runs."
    assert found()[0] == ("warning", said)


def test_places_of_a_node_that_is_gone_are_a_warning(jobs, node):
    node.heartbeat_at -= timedelta(hours=1)
    node.save()

    said = "1 places of keys are held by nodes that do not live."
    assert found()[0] == ("warning", said)


def test_the_shares_of_lanes_are_counted():
    for tenant in ("a", "b", "b"):
        export.enqueue(tenant)

    ((level, said),) = found("shares")

    assert level == "ok"
    assert said.startswith("2 shares (")
    assert said.endswith("have jobs in default, priority 0.")
