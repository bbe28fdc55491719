"""Plans that enqueue keeps on a user's own connection, and where it must not."""

import pytest
from django.db import connection, transaction

from tests.servers import PgBouncer, private
from tests.tasks import add

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="PostgreSQL's own"),
]
PREPARED = "SELECT statement FROM pg_prepared_statements"


@pytest.fixture
def fresh_connection():
    connection.close()
    yield connection
    connection.close()


def prepared():
    with connection.cursor() as cursor:
        cursor.execute(PREPARED)
        return [sql for (sql,) in cursor.fetchall()]


def test_a_direct_connection_keeps_the_plan_from_the_fifth_job_on(fresh_connection):
    for number in range(4):
        add.enqueue(number, 1)
    assert prepared() == []

    with transaction.atomic():
        for number in range(4):
            add.enqueue(number, 1)
            # Not a plan of the project's own statements, however often they run.
            prepared()

    assert len(prepared()) in (1, 2)
    assert all("INSERT INTO windlass_live" in sql for sql in prepared())


def test_plans_that_the_server_forgot_are_made_again(fresh_connection):
    for number in range(10):
        add.enqueue(number, 1)
    with connection.cursor() as cursor:
        cursor.execute("DISCARD ALL")

    result = add.enqueue(1, 1)

    assert add.get_backend().get_result(result.id).args == [1, 1]


@pytest.fixture
def pooled(monkeypatch):
    """The test database behind a transaction pooler with two server connections."""
    if not PgBouncer.exists():
        pytest.skip("There is no pgbouncer here")
    with private(PgBouncer) as pooler:
        connection.close()
        monkeypatch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
        monkeypatch.setitem(connection.settings_dict, "PORT", str(pooler.port))
        yield
        connection.close()


def test_behind_a_pooler_nothing_is_prepared(pooled):
    for number in range(10):
        add.enqueue(number, 1)

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM windlass_live")
        assert cursor.fetchone() == (10,)
    assert prepared() == []
