"""The tables: what they refuse, how they are made and unmade, what they show."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from tests.contract.rows import NODE, hours, new
from windlass import db
from windlass.jobs import lifecycle
from windlass.models import EndedJob, Job, LiveJob, Node

postgresql = pytest.mark.skipif(
    connection.vendor != "postgresql", reason="about PostgreSQL's storage"
)


def row(model=LiveJob, **columns):
    now = timezone.now()
    kept = {
        "id": new().id,
        "enqueued_at": now,
        "available_at": now,
        "backend_alias": "default",
        "queue_name": "default",
        "task_path": "tests.tasks.add",
        "args": [],
        "kwargs": {},
        "nice": 0,
    }
    if model is EndedJob:
        kept |= {"state": "succeeded", "finished_at": now}
    return model.objects.create(**{**kept, **columns})


# What cannot be


@pytest.mark.django_db
@pytest.mark.parametrize(
    "impossible",
    [
        {"node": NODE},
        {"started_at": timezone.now()},
        {"node": NODE, "started_at": timezone.now(), "hold": "limit"},
        {"nice": 101},
        {"nice": -101},
        {"attempts": -1},
        {"claim": -1},
        {"max_attempts": 0},
    ],
)
def test_an_impossible_live_row_is_refused(impossible):
    with pytest.raises(IntegrityError), transaction.atomic():
        row(**impossible)

    assert not LiveJob.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    "impossible",
    [
        *({"state": state} for state in ("scheduled", "blocked", "ready", "running")),
        {"state": "finished"},
        {"finished_at": None},
    ],
)
def test_an_impossible_ended_row_is_refused(impossible):
    with pytest.raises(IntegrityError), transaction.atomic():
        row(EndedJob, **impossible)


@pytest.mark.django_db
def test_an_id_is_one_row_in_each_table():
    for model in (LiveJob, EndedJob):
        first = row(model)
        with pytest.raises(IntegrityError), transaction.atomic():
            row(model, id=first.id)


@pytest.mark.django_db
def test_the_view_refuses_to_be_written():
    lifecycle.enqueue(db.dialect("default"), [new()])
    job = Job.objects.get()

    with pytest.raises(TypeError, match=r"windlass\.api"):
        job.save()
    with pytest.raises(TypeError, match=r"windlass\.api"):
        job.delete()


# Migrations


@pytest.mark.django_db
def test_models_and_migrations_agree():
    out = StringIO()

    call_command("makemigrations", "windlass", check=True, dry_run=True, stdout=out)

    assert "No changes detected" in out.getvalue()


def test_the_migrations_can_be_undone_and_done_again(committed):
    def tables():
        with connection.cursor() as cursor:
            found = connection.introspection.get_table_list(cursor)
        names = {table.name for table in found if table.name.startswith("windlass")}
        # Those of an app of its own have migrations of their own.
        return {name for name in names if not name.startswith("windlass_workflow")}

    before = tables()
    assert before == {
        *(
            "windlass_live",
            "windlass_ended",
            "windlass_node",
            "windlass_queue",
            "windlass_rate",
            "windlass_job",
            "windlass_cancel",
            "windlass_schedule",
            "windlass_schedule_mark",
            "windlass_slot",
            "windlass_waiter",
            "windlass_memo",
            "windlass_event",
        )
    }
    try:
        MigrationExecutor(connection).migrate([("windlass", None)])
        assert tables() == set()
    finally:
        MigrationExecutor(connection).migrate(
            MigrationExecutor(connection).loader.graph.leaf_nodes("windlass")
        )
    assert tables() == before
    lifecycle.enqueue(db.dialect("default"), [new()])
    assert Job.objects.get().state == "ready"


@pytest.mark.django_db
def test_the_views_columns_are_jobs_fields():
    with connection.cursor() as cursor:
        columns = connection.introspection.get_table_description(cursor, "windlass_job")

    assert {column.name for column in columns} == {
        field.column for field in Job._meta.fields
    }


@pytest.mark.django_db
def test_the_views_values_are_the_tables():
    for model in (LiveJob, EndedJob):
        stored = row(model, nice=-7, metadata={"m": 1}, queue_name="mail", crashes=2)
        job = Job.objects.get(pk=stored.id)

        for field in Job._meta.fields:
            expected = {
                "name": stored.task_path,
                "priority": 7,
                "run_after": stored.available_at,
                "state": getattr(stored, "state", "ready"),
                "reason": getattr(stored, "reason", ""),
                "finished_at": getattr(stored, "finished_at", None),
                "return_value": getattr(stored, "return_value", None),
            }.get(field.name, getattr(stored, field.name, None))
            assert str(getattr(job, field.name)) == str(expected), field.name


# Indexes and storage


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("table", "names"),
    [
        ("windlass_live", {"windlass_live_claim"}),
        ("windlass_ended", {"windlass_ended_finished", "windlass_ended_troubled"}),
    ],
)
def test_the_indexes_exist_and_no_others(table, names):
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, table)

    indexes = {
        name
        for name, facts in found.items()
        if facts["index"] and not facts["primary_key"] and not facts["unique"]
    }
    assert indexes == names


@pytest.mark.django_db
def test_no_index_names_a_column_that_a_claim_changes():
    # One such index would end PostgreSQL's heap-only updates.
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, "windlass_live")
        indexed = {
            column
            for facts in found.values()
            if facts["index"] or facts["unique"] or facts["primary_key"]
            for column in facts["columns"]
        }

    assert not indexed & {"node", "started_at", "attempts", "claim"}
    assert indexed == {
        *("id", "backend_alias", "queue_name", "nice", "share", "available_at"),
        "unique_key",
    }


@postgresql
@pytest.mark.django_db
@pytest.mark.parametrize(
    ("table", "option"),
    [
        ("windlass_live", "fillfactor=45"),
        ("windlass_live", "autovacuum_vacuum_scale_factor=0"),
        ("windlass_live", "autovacuum_vacuum_threshold=5000"),
        ("windlass_live", "autovacuum_vacuum_cost_delay=0"),
        ("windlass_ended", "autovacuum_vacuum_insert_scale_factor=0"),
    ],
)
def test_storage_parameters_are_set(table, option):
    with connection.cursor() as cursor:
        cursor.execute("SELECT reloptions FROM pg_class WHERE relname = %s", [table])
        assert option in cursor.fetchone()[0]


# Named scopes


@pytest.mark.django_db
def test_the_scopes_of_live_jobs_agree_with_the_view():
    held = {"node": NODE, "started_at": timezone.now()}
    found = {
        "running": row(**held).id,
        "blocked": row(hold="limit", available_at=hours(9)).id,
        "scheduled": row(available_at=hours(1)).id,
        "ready": row().id,
    }

    for name, id in found.items():
        scope = getattr(LiveJob.objects, name)()
        assert [str(job.id) for job in scope] == [id]
        assert [str(job.id) for job in Job.objects.in_state(name)] == [id]
    waiting = {str(job.id) for job in LiveJob.objects.waiting()}
    assert waiting == set(found.values()) - {found["running"]}


@pytest.mark.django_db
def test_the_moment_of_a_scope_is_an_argument():
    row(available_at=hours(1))

    assert LiveJob.objects.ready(now=hours(2)).count() == 1
    assert LiveJob.objects.scheduled(now=hours(2)).count() == 0


@pytest.mark.django_db
def test_the_scopes_of_ended_jobs():
    row(EndedJob, state="failed", finished_at=hours(-2))
    row(EndedJob)

    assert EndedJob.objects.in_state("failed").count() == 1
    assert EndedJob.objects.ended_before(hours(-1)).count() == 1
    assert Job.objects.in_state("failed", "succeeded").count() == 2


@pytest.mark.django_db
def test_jobs_and_nodes_can_be_read_by_people():
    job = Job.objects.get(pk=row().id)
    ended = Job.objects.get(
        pk=row(
            EndedJob,
            started_at=hours(0) - timedelta(seconds=3),
            finished_at=hours(0),
        ).id
    )
    node = Node(id=255, name="worker 1", host="here/1", pid=7)

    assert str(job) == f"tests.tasks.add {job.id} (ready)"
    assert job.duration is None
    assert ended.duration.total_seconds() == pytest.approx(3, abs=0.1)
    assert "worker 1" in str(node)
    assert node.worker_id == "00000000000000ff"
