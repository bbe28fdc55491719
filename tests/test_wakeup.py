"""Who is told of a new job, on PostgreSQL, and how seldom."""

import pytest
from django.db import connection, transaction

from tests.tasks import add
from windlass.db import postgresql
from windlass.db.postgresql import channel

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(
        connection.vendor != "postgresql", reason="only PostgreSQL has NOTIFY"
    ),
]


@pytest.fixture
def heard(monkeypatch):
    """Notifications that this connection is sent, of itself as of others."""
    monkeypatch.setattr(postgresql.PostgreSQL, "_notified", {})
    with connection.cursor() as cursor:
        cursor.execute(f'LISTEN "{channel("default")}"')
    raw = connection.connection

    def notes():
        return [note.payload for note in raw.notifies(timeout=0.2)]

    yield notes
    with connection.cursor() as cursor:
        cursor.execute("UNLISTEN *")


def test_many_jobs_in_a_moment_are_one_notification(heard, monkeypatch):
    # A moment lasts as long as this busy machine needs.
    monkeypatch.setattr(postgresql, "NOTIFY_EVERY", 60)
    for number in range(5):
        add.enqueue(number, 1)

    assert heard() == ["default"]


def test_each_transaction_notifies_at_its_own_commit(heard):
    for _transaction in range(2):
        with transaction.atomic():
            add.enqueue(1, 1)

    assert heard() == ["default", "default"]


def test_a_transaction_that_is_rolled_back_notifies_nobody(heard):
    with transaction.atomic():
        add.enqueue(1, 1)
        transaction.set_rollback(True)

    assert heard() == []


def test_nobody_is_notified_where_workers_poll(heard, settings):
    entry = settings.TASKS["default"]
    settings.TASKS = {"default": {**entry, "OPTIONS": {"wakeup": "poll"}}}

    add.enqueue(1, 1)

    assert heard() == []


@pytest.mark.parametrize("alias", ["x" * 200, 'quo"ted', "umläut", "default"])
def test_every_alias_has_a_channel_that_postgresql_accepts(alias):
    with connection.cursor() as cursor:
        cursor.execute(f'LISTEN "{channel(alias)}"')
        cursor.execute("SELECT pg_notify(%s, '')", [channel(alias)])
        cursor.execute("UNLISTEN *")
