"""
How the hot statements are carried out, and how many there are.

A queue is only as fast as the plan of its worst minute: on an empty table that was
just analysed, beside a hundred thousand rows that are not due, after thousands of
claims. Most of this is about PostgreSQL, where plans flip.
"""

import json
import os
import re
from contextlib import contextmanager

import psycopg
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests import tasks
from tests.contract.rows import (
    DEFAULT,
    NODE,
    back,
    end,
    new,
    several,
    take,
)
from tests.limited_tasks import one_of_account
from tests.waiting import eventually
from windlass import db
from windlass.db import Lane
from windlass.jobs import announcing, execution, lifecycle
from windlass.jobs.handing_on import Nobody
from windlass.jobs.limits import Limits
from windlass.models import EndedJob, Job, LiveJob

IS = connection.vendor
on_postgresql = pytest.mark.skipif(IS != "postgresql", reason="about PostgreSQL")
on_sqlite = pytest.mark.skipif(IS != "sqlite", reason="about SQLite")
on_mysql = pytest.mark.skipif(IS != "mysql", reason="about MariaDB and MySQL")


@pytest.fixture
def dialect(committed):
    yield db.dialect("default", owned=True)
    committed.close()


def ask(sql, *values):
    with connection.cursor() as cursor:
        cursor.execute(sql, values or None)
        return cursor.fetchall() if cursor.description else []


def many(table, count, **columns):
    """Rows by the thousand, made by the server."""
    if table == "windlass_live":
        state = {"node": "NULL", "started_at": "NULL", "hold": "''"}
    else:
        state = {
            "node": "1",
            "started_at": "now()",
            "finished_at": "now() - n * interval '1 second'",
            "state": "'succeeded'",
            "reason": "''",
        }
    columns = {
        "id": "gen_random_uuid()",
        "enqueued_at": "now()",
        "available_at": "now() + n * interval '1 microsecond' - interval '1 hour'",
        "backend_alias": "'default'",
        "queue_name": "'default'",
        "task_path": "'tests.tasks.add'",
        "args": "'[1, 2]'",
        "kwargs": "'{}'",
        "nice": "0",
        "attempts": "0",
        "claim": "0",
        **state,
        **columns,
    }
    ask(
        f"INSERT INTO {table} ({', '.join(columns)}) "
        f"SELECT {', '.join(columns.values())} FROM generate_series(1, {count}) n"
    )


def updates():
    """How many rows of the hot table were updated, and how many of them in place."""
    ask("SELECT pg_stat_force_next_flush()")
    return ask(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables"
        " WHERE relname = 'windlass_live'"
    )[0]


# Claims are heap-only


@on_postgresql
def test_every_claim_of_a_fresh_backlog_is_heap_only(dialect):
    ask("VACUUM FULL windlass_live")
    updated_before, in_place_before = updates()
    for _each in range(10):
        dialect.insert_many(several(500))
    claimed = 0

    while jobs := take(dialect, 200):
        claimed += len(jobs)

    assert claimed == 5000
    # The statistics of a backend arrive when it says so, or some time after.
    assert eventually(lambda: updates()[0] - updated_before >= 5000)
    updated, in_place = updates()
    assert updated - updated_before == 5000
    assert in_place - in_place_before == 5000


@on_postgresql
def test_claims_stay_heap_only_while_jobs_come_and_go(dialect):
    ask("VACUUM FULL windlass_live")
    updated_before, in_place_before = updates()

    for _each in range(20):
        dialect.insert_many(several(250))
        dialect.finish(NODE, [end(job) for job in take(dialect, 250)])

    assert eventually(lambda: updates()[0] - updated_before >= 5000)
    updated, in_place = updates()
    assert in_place - in_place_before == updated - updated_before == 5000


# Plans on PostgreSQL


@contextmanager
def plans():
    """Collect the plan of each statement of this connection, as it was carried out."""
    found = []
    connection.ensure_connection()
    raw = connection.connection
    for setting in (
        "LOAD 'auto_explain'",
        "SET auto_explain.log_min_duration = 0",
        "SET auto_explain.log_analyze = on",
        "SET auto_explain.log_buffers = on",
        "SET auto_explain.log_timing = off",
        "SET auto_explain.log_format = json",
        "SET auto_explain.log_level = notice",
        "SET client_min_messages = notice",
    ):
        try:
            raw.execute(setting)
        except psycopg.errors.UndefinedFile:
            # CI runs these tests on a whole server too, where this is a failure.
            if "WINDLASS_TEST_PG_IN_A_WHEEL" not in os.environ:
                raise
            pytest.skip("the PostgreSQL in a wheel has no auto_explain")

    def note(diagnostic):
        text = diagnostic.message_primary
        if "plan:" in text:
            found.append(json.loads(text.split("plan:", 1)[1])["Plan"])

    raw.add_notice_handler(note)
    try:
        yield found
    finally:
        raw.remove_notice_handler(note)
        raw.execute("SET auto_explain.log_min_duration = -1")


def nodes(plan):
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def scans(plan):
    """How each table is read: (table, kind of scan, index)."""
    return {
        (node["Relation Name"], node["Node Type"], index_of(node))
        for node in nodes(plan)
        if "Relation Name" in node and node["Node Type"] != "ModifyTable"
    }


def index_of(scan):
    # A bitmap's index is named one level below.
    return next((n["Index Name"] for n in nodes(scan) if "Index Name" in n), None)


def assert_reads_no_table_whole(plan):
    for table, kind, _index in scans(plan):
        assert kind in ("Index Scan", "Index Only Scan", "Tid Scan"), (table, plan)


def buffers(plan):
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


BACKLOGS = {
    "many rows": lambda: (many("windlass_live", 20_000), ask("ANALYZE windlass_live")),
    "analysed while empty": lambda: (
        ask("ANALYZE windlass_live"),
        many("windlass_live", 20_000),
    ),
    "never analysed": lambda: many("windlass_live", 20_000),
    "a few rows, analysed": lambda: (
        many("windlass_live", 50),
        ask("ANALYZE windlass_live"),
    ),
}


@pytest.fixture
def manual_vacuum(dialect):
    """Keep autovacuum from analysing in the middle of a test about statistics."""
    ask("ALTER TABLE windlass_live SET (autovacuum_enabled = off)")
    ask("VACUUM ANALYZE windlass_live")
    yield
    ask("ALTER TABLE windlass_live RESET (autovacuum_enabled)")


@on_postgresql
@pytest.mark.parametrize("backlog", BACKLOGS)
def test_the_hot_statements_read_no_table_whole(dialect, manual_vacuum, backlog):
    BACKLOGS[backlog]()
    # A connection is asked once whether it is direct.
    dialect.lanes("default")

    with plans() as found:
        # The first executions make custom plans, the later ones the cached plan.
        for _each in range(8):
            assert dialect.lanes("default") == [("default", 0)]
            jobs = take(dialect, 5)
            assert len(jobs) == 5
            dialect.finish(NODE, [end(job) for job in jobs[:3]])
            dialect.put_back(NODE, [back(job) for job in jobs[3:]])

    assert len(found) == 32
    for plan in found:
        assert_reads_no_table_whole(plan)
    for claim in found[1::4]:
        assert {index for table, _kind, index in scans(claim)} == {
            *("windlass_live_claim", "windlass_queue_once", None)
        }
        assert buffers(claim) < 150
    for finish in found[2::4]:
        assert buffers(finish) < 150


@on_postgresql
def test_an_idle_claim_beside_100_000_scheduled_rows_reads_almost_nothing(dialect):
    later = "now() + interval '1 day' + n * interval '1 second'"
    many("windlass_live", 100_000, available_at=later)
    take(dialect, 1)  # the connection is tuned at its first use

    with plans() as found:
        assert take(dialect, 200) == []
        assert take(dialect, 200, Lane("default", 0), Lane("none", 0)) == []

    for plan in found:
        assert_reads_no_table_whole(plan)
        assert buffers(plan) < 15


@on_postgresql
def test_a_claim_between_100_000_scheduled_rows_reads_only_what_it_takes(dialect):
    later = "now() + interval '1 day' + n * interval '1 second'"
    many("windlass_live", 100_000, available_at=later)
    dialect.insert_many(several(300))
    take(dialect, 1)

    with plans() as found:
        assert len(take(dialect, 100)) == 100

    assert buffers(found[0]) < 1500


@on_postgresql
def test_a_floor_saves_walking_over_what_is_gone(dialect):
    many("windlass_live", 20_000)
    gone = take(dialect, 20_000)
    dialect.finish(NODE, [end(job) for job in gone])
    dialect.insert(new())
    floor = gone[-1].available_at

    with plans() as found:
        assert len(take(dialect, 200, Lane("default", 0, floor))) == 1

    assert buffers(found[0]) < 50


@pytest.fixture
def no_autovacuum():
    """Begin with tables that hold no dead rows, and analyse them only when told."""
    tables = "windlass_live", "windlass_ended"
    ask("TRUNCATE windlass_live, windlass_ended")
    for table in tables:
        ask(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
    yield
    for table in tables:
        ask(f"ALTER TABLE {table} RESET (autovacuum_enabled)")


@on_postgresql
@pytest.mark.parametrize("analysed", ["before", "after"])
def test_the_view_is_read_by_the_indexes_of_both_tables(
    committed, no_autovacuum, analysed
):
    if analysed == "before":
        ask("ANALYZE windlass_live, windlass_ended")
    many("windlass_live", 20_000)
    many("windlass_ended", 20_000)
    if analysed == "after":
        ask("ANALYZE windlass_live, windlass_ended")
    ids = [LiveJob.objects.values_list("id").first()[0], EndedJob.objects.first().pk]

    with plans() as found:
        for id in ids:
            Job.objects.get(pk=id)
        list(Job.objects.filter(pk__in=ids))
        list(Job.objects.order_by("-id")[:100])
        list(Job.objects.filter(id__lt=ids[0]).order_by("-id")[:100])

    for plan in found:
        assert buffers(plan) < 800, plan
    for plan in found:
        kinds = {(table, index) for table, _kind, index in scans(plan)}
        assert kinds == {
            ("windlass_live", "windlass_live_pkey"),
            ("windlass_ended", "windlass_ended_pkey"),
        }
    committed.close()


@on_postgresql
def test_the_newest_failures_are_found_by_their_index(committed):
    many("windlass_ended", 20_000)
    many("windlass_ended", 20, state="'failed'")
    ask("ANALYZE windlass_ended")

    with plans() as found:
        rows = EndedJob.objects.exclude(state="succeeded").order_by("-finished_at")
        assert len(rows[:10]) == 10
        list(EndedJob.objects.order_by("-finished_at")[:10])

    assert {index for _table, _kind, index in scans(found[0])} == {
        "windlass_ended_troubled"
    }
    assert {index for _table, _kind, index in scans(found[1])} == {
        "windlass_ended_finished"
    }
    committed.close()


# Plans elsewhere


def plan_on_sqlite(statement):
    statement = re.sub(r"\?", "NULL", statement)
    return " ".join(str(row) for row in ask(f"EXPLAIN QUERY PLAN {statement}"))


@on_sqlite
def test_sqlite_claims_by_the_index(dialect):
    from windlass.db import sqlite

    dialect.insert_many(several(500))
    ask("ANALYZE")
    plan = plan_on_sqlite(sqlite.PICK)

    assert "USING INDEX windlass_live_claim" in plan
    lane = "backend_alias=? AND queue_name=? AND nice=? AND share=?"
    assert f"({lane} AND available_at<?)" in plan
    assert "SCAN windlass" not in plan
    assert "TEMP B-TREE FOR ORDER BY" not in plan
    assert "USING INTEGER PRIMARY KEY" in plan_on_sqlite(sqlite.HOLD)


@on_sqlite
@pytest.mark.parametrize("name", ["FINISH", "DELETE"])
def test_sqlite_ends_jobs_by_their_key(name, dialect):
    from windlass.db import sqlite

    dialect.insert_many(several(500))
    ask("ANALYZE")
    plan = plan_on_sqlite(getattr(sqlite, name))

    assert "USING INDEX sqlite_autoindex_windlass_live_1 (id=?)" in plan
    assert "SCAN windlass" not in plan
    assert "SCAN live" not in plan


@on_sqlite
@pytest.mark.parametrize(
    "rows",
    [
        lambda: Job.objects.filter(pk=new().id),
        lambda: Job.objects.filter(pk__in=[new().id, new().id]),
    ],
)
def test_sqlite_finds_a_job_by_the_keys_of_both_tables(dialect, rows):
    plan = rows().explain()

    assert plan.count("SEARCH windlass_live USING INDEX sqlite_autoindex") == 1
    assert plan.count("SEARCH windlass_ended USING INDEX sqlite_autoindex") == 1


@on_sqlite
def test_sqlite_reads_a_page_of_jobs_in_the_order_of_both_keys(dialect):
    plan = Job.objects.order_by("-id")[:100].explain()

    assert "MERGE (UNION ALL)" in plan
    assert "TEMP B-TREE" not in plan


@on_mysql
def test_mariadb_finds_a_job_by_the_keys_of_both_tables(dialect):
    dialect.insert_many(jobs := several(3))
    dialect.finish(NODE, [end(job) for job in take(dialect, 1)])

    for job in (jobs[0], jobs[-1]):
        plan = Job.objects.filter(pk=job.id).explain()
        assert "windlass_live ALL" not in plan
        assert "windlass_ended ALL" not in plan


@on_mysql
def test_mariadb_locks_by_the_key_and_claims_by_the_index(dialect):
    from windlass.db import mysql

    dialect.insert_many(jobs := several(500))
    ids = ", ".join(f"'{dialect.key(job.id)}'" for job in jobs[:5])
    queue = ("'default'", "'default'")
    what = (*queue, 0, "''", *queue, 5)
    lock = mysql.LOCK.format(now="UTC_TIMESTAMP(6)") % what
    fenced = mysql.FENCED.format(ids=ids) % NODE
    delete = mysql.DELETE.format(ids=ids)

    for statement, key in (
        (lock, "windlass_live_claim"),
        (fenced, "PRIMARY"),
        (delete, "PRIMARY"),
    ):
        plan, *_subqueries = ask(f"EXPLAIN {statement}")
        assert plan[3] in ("range", "ref", "const"), plan
        assert plan[5] == key, plan


# Budgets


@contextmanager
def budget(most):
    """At most so many statements, not counting BEGIN and COMMIT."""
    with CaptureQueriesContext(connection) as captured:
        yield
    said = [
        query["sql"]
        for query in captured.captured_queries
        if not query["sql"].startswith(("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE"))
    ]
    assert len(said) <= most, "\n".join(said)


@pytest.fixture
def users(committed):
    """A dialect whose every statement Django sees."""
    return db.dialect("default")


def test_enqueue_is_one_statement(users):
    with budget(1):
        tasks.add.enqueue(1, 2)


def test_enqueue_all_of_a_thousand_is_at_most_three(users):
    backend = tasks.add.get_backend()
    most = 3 if IS != "mysql" else 10

    with budget(most):
        backend.enqueue_all([(tasks.add, (n, 1), {}) for n in range(1000)])


def test_a_claim_is_one_or_two_statements(users):
    users.insert_many(several(50))

    with budget(1 if IS == "postgresql" else 2):
        assert len(take(users, 50)) == 50


def test_one_job_from_enqueue_to_its_recorded_end(users):
    tasks.add.enqueue(1, 2)
    take(users, 1)
    executor = execution.Executor(
        node=NODE, database="default", backend=type(tasks.add.get_backend())
    )

    with budget(4 if IS == "postgresql" else 6):
        tasks.add.enqueue(1, 2)
        (job,) = lifecycle.claim(users, NODE, "default", [DEFAULT], 1)
        outcome = execution.run(job, executor)
        lifecycle.record_one(users, NODE, outcome.move)
        announcing.announce(outcome, executor)

    assert Job.objects.get(pk=job.id).state == "succeeded"


def test_the_end_of_a_batch_costs_the_same_for_any_size(users):
    users.insert_many(several(400))
    jobs = take(users, 400)

    with budget(1 if IS == "postgresql" else 4):
        assert len(users.finish(NODE, [end(job) for job in jobs])) == 400


def test_the_slots_of_a_batch_cost_the_same_for_any_size(users):
    limits = Limits("default", {})
    for account in range(40):
        one_of_account.enqueue(account)
    jobs = take(users, 40)

    # On PostgreSQL: they are taken; they are freed, and nobody waits.
    with budget(1 if IS == "postgresql" else 3):
        assert limits.admit(users, NODE, jobs) == jobs
    with budget(2 if IS == "postgresql" else 4):
        assert limits.release(users, NODE, jobs, taker=Nobody()) == []


def test_a_result_is_read_with_one_statement(users):
    result = tasks.add.enqueue(1, 2)

    with budget(1):
        assert tasks.add.get_result(result.id) == result
    with budget(1):
        result.refresh()
