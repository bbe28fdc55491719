"""On a database with one writer, a backlog is worked off without waiting for polls."""

import pytest

from tests.running import make_claimer, make_flusher
from tests.tasks import add
from windlass import db
from windlass.jobs.execution import Executor
from windlass.runtime.exchange import Exchange
from windlass.runtime.ledger import Ledger
from windlass.tasks_api import task_backends

NODE = 2701

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def exchange():
    own = db.dialect("default", owned=True)
    executor = Executor(NODE, "default", type(task_backends["default"]))
    ledger = Ledger(NODE, slots=4)
    flusher = make_flusher(own, executor, ledger)
    claimer = make_claimer(own, NODE)
    yield Exchange(own, flusher, claimer)
    ledger.remove()


def test_a_claim_that_was_filled_is_followed_by_another(exchange):
    for number in range(5):
        add.enqueue(number, 1)

    claims = [len(exchange.turn(2, poll_every=1000)) for _turn in range(3)]

    assert claims == [2, 2, 1]


def test_a_turn_without_room_forgets_nothing(exchange):
    for number in range(2):
        add.enqueue(number, 1)

    claims = [len(exchange.turn(room, poll_every=1000)) for room in (1, 0, 1)]

    assert claims == [1, 0, 1]
