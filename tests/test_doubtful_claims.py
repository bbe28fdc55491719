"""A claim whose answer was lost leaves no job stranded on a node that lives."""

import pytest

from tests.running import make_claimer
from tests.tasks import add
from windlass import db
from windlass.models import Job

NODE = 4711

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_claim_that_nobody_heard_of_is_given_back_without_spending_an_attempt():
    for number in range(4):
        add.enqueue(number, 1)
    claimer = make_claimer(db.dialect("default"), NODE)
    known = claimer.claim(2)
    unheard = claimer.claim(2)

    claimer.release_unknown({(job.id, job.claim) for job in known})

    for job in unheard:
        given_back = Job.objects.get(pk=job.id)
        assert (given_back.state, given_back.attempts) == ("ready", 0)
    for job in known:
        assert Job.objects.get(pk=job.id).state == "running"


def test_what_the_node_knows_of_stays_held_when_nothing_was_lost():
    add.enqueue(1, 1)
    claimer = make_claimer(db.dialect("default"), NODE)
    known = claimer.claim(1)

    claimer.release_unknown({(job.id, job.claim) for job in known})

    assert Job.objects.get(pk=known[0].id).state == "running"
