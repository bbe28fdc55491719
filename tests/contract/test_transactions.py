"""Several operations in one commit, on either kind of connection."""

import json

import pytest
from django.db import IntegrityError, connection, transaction

from tests.contract.rows import (
    NODE,
    back,
    end,
    ended,
    live,
    new,
    places,
    several,
    states,
    take,
    take_new,
)
from windlass.db import rare
from windlass.models import LiveJob


def one_of_each(dialect, held):
    """Every operation that writes, on three held jobs and what it adds itself."""
    dialect.insert(single := new("single"))
    dialect.insert_many(several(3))
    dialect.insert_many(several(250))
    dialect.finish(NODE, [end(held[0])])
    dialect.put_back(NODE, [back(held[1], 60)])
    rare.annotate(dialect, NODE, held[2], progress={"current": 1})
    rare.hold(dialect, [single.id], hold="limit")
    rare.unhold(dialect, [single.id])
    rare.end_waiting(dialect, [single.id], state="cancelled", reason="cancelled")
    rare.revive(dialect, [single.id], states=["cancelled"])
    assert len(take(dialect, 10)) == 10


def test_a_transaction_commits_together(dialect):
    held = take_new(dialect, 3)

    with dialect.transaction():
        one_of_each(dialect, held)

    assert states() == {"succeeded": 1, "scheduled": 1, "running": 11, "ready": 244}


def test_a_transaction_rolls_back_together(dialect):
    held = take_new(dialect, 3)

    with dialect.transaction():
        one_of_each(dialect, held)
        transaction.set_rollback(True)

    assert states() == {"running": 3}
    assert [live(job).progress for job in held] == [None] * 3
    # And each of them still holds.
    assert dialect.finish(NODE, [end(job) for job in held]) == {j.id for j in held}


def test_an_operation_that_fails_takes_the_transaction_along(dialect):
    first, second = take_new(dialect, 2)

    def finish_both():
        with dialect.transaction():
            dialect.finish(NODE, [end(first)])
            dialect.finish(NODE, [end(second, "running")])

    with pytest.raises(IntegrityError):
        finish_both()

    assert states() == {"running": 2}
    assert take(dialect) == []


def test_django_sees_the_transaction(dialect):
    # So a task's own writes share it, and on_commit waits for it.
    said = []

    with dialect.transaction():
        assert connection.in_atomic_block
        transaction.on_commit(lambda: said.append("committed"))
        take(dialect)
        with transaction.atomic():
            dialect.insert(new())
        assert said == []

    assert said == ["committed"]
    assert states() == {"ready": 1}


def test_a_savepoint_inside_can_be_given_up(dialect):
    with dialect.transaction():
        dialect.insert(kept := new("kept"))
        with transaction.atomic():
            dialect.insert(new("undone"))
            take(dialect, 2)
            transaction.set_rollback(True)
        assert places(take(dialect, 5)) == ["kept"]

    assert states() == {"running": 1}
    assert live(kept).node == NODE


def test_the_finish_of_one_batch_and_the_claim_of_the_next_share_a_commit(dialect):
    first, second = take_new(dialect, 2)
    dialect.insert(new("next"))

    with dialect.transaction():
        assert dialect.finish(NODE, [end(first)]) == {first.id}
        assert dialect.put_back(NODE, [back(second, 60)]) == {second.id}
        assert places(take(dialect, 5)) == ["next"]

    assert ended(first)
    assert states() == {"succeeded": 1, "scheduled": 1, "running": 1}


def test_every_operation_works_in_a_users_transaction(dialect):
    if dialect.owned:
        pytest.skip("an owned connection has no user")
    held = take_new(dialect, 3)

    with transaction.atomic():
        one_of_each(dialect, held)
        LiveJob.objects.filter(node=None).update(metadata={"seen": True})
    with transaction.atomic():
        dialect.insert(new())
        dialect.finish(NODE, [end(held[2])])
        transaction.set_rollback(True)

    assert states() == {"succeeded": 1, "scheduled": 1, "running": 11, "ready": 244}


def test_an_operation_that_fails_can_be_undone_by_the_users_savepoint(dialect):
    if dialect.owned:
        pytest.skip("an owned connection has no user")
    (job,) = take_new(dialect)

    with transaction.atomic():
        with pytest.raises(IntegrityError), transaction.atomic():
            dialect.finish(NODE, [end(job, "running")])
        dialect.finish(NODE, [end(job, value=json.loads("1"))])

    assert ended(job).return_value == 1
