"""Schedules in the database: made, changed, synced from settings, fired once."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from io import StringIO
from itertools import pairwise
from threading import Barrier
from uuid import UUID

import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from tests.running import run_one
from windlass import api, conf, db, firing, recurring
from windlass.exceptions import EnqueueError, InvalidSchedule, WindlassError
from windlass.models import (
    CancelRequest,
    EndedJob,
    Job,
    LiveJob,
    Schedule,
    ScheduleMark,
)
from windlass.runtime.pruner import Pruner
from windlass.runtime.scheduler import BATCH, Scheduler
from windlass.schedules import timing
from windlass.tasks_api import Task as DjangosTask

HOUR = timedelta(hours=1)
BACKEND = "windlass.backend.WindlassBackend"


pytestmark = pytest.mark.usefixtures("committed")


@pytest.fixture
def said(caplog, monkeypatch):
    """What Windlass logs, even if a tool before has turned off all loggers it met."""
    monkeypatch.setattr(logging.getLogger("windlass"), "disabled", False)
    return caplog


def plain():
    return "plain"


# What Django 6.0's own decorator makes.
plain = DjangosTask(
    func=plain,
    priority=0,
    backend="default",
    queue_name="default",
    run_after=None,
    takes_context=False,
)


def schedule(key="tick", **said):
    return api.schedule_recurring_task(
        key=key, **{"task_path": "tests.tasks.noop", "schedule": "@hourly", **said}
    )


def tick(**options):
    return Scheduler(conf.parse("default", {"BACKEND": BACKEND, "OPTIONS": options}))


def sync(**entries):
    options = conf.parse(
        "default", {"BACKEND": BACKEND, "OPTIONS": {"recurring": entries}}
    )
    recurring.sync(db.dialect("default"), options)


def now():
    return firing.aware(db.dialect("default").now())


def ago(**units):
    return firing.stored(db.dialect("default"), now() - timedelta(**units))


def fresh(key="tick"):
    return Schedule.objects.get(key=key)


def was_due(key="tick", **units):
    """Make a schedule due some time ago, as one of its due times."""
    row = fresh(key)
    when = firing.timing_of(row)
    due = when.after(now() - timedelta(**units))
    Schedule.objects.filter(pk=row.pk).update(
        next_due_at=firing.stored(db.dialect("default"), due)
    )
    return due


def marks(key="tick"):
    rows = ScheduleMark.objects.filter(key=key).order_by("due_at")
    return [firing.aware(row.due_at) for row in rows]


def aware(moment):
    return firing.aware(moment)


# Making and changing


def test_a_new_schedule_is_first_due_at_its_next_due_time():
    before = now()
    row = schedule(args=[1], kwargs={"b": 2}, timezone="Asia/Tokyo", description="why")

    due = timing("@hourly", "Asia/Tokyo").after(before)
    assert aware(fresh().next_due_at) in (due, due + HOUR)
    assert row.pk == fresh().pk
    assert (row.args, row.kwargs, row.is_static) == ([1], {"b": 2}, False)
    assert tick().tick() > 0
    assert not LiveJob.objects.exists()


def test_the_same_key_changes_a_schedule_and_only_new_times_move_its_next():
    schedule()
    due = was_due(hours=3)

    schedule(args=[5], description="other")
    assert aware(fresh().next_due_at) == due
    schedule(schedule="every 2h")

    assert Schedule.objects.count() == 1
    assert fresh().args == []
    assert aware(fresh().next_due_at) > now()


def test_times_are_the_projects_unless_the_schedule_has_a_zone():
    schedule("here", schedule="30 12 * * *")
    schedule("there", schedule="30 12 * * *", timezone="Asia/Tokyo")

    here, there = (aware(fresh(key).next_due_at) for key in ("here", "there"))
    assert here == timing("30 12 * * *", "Europe/Berlin").after(here - HOUR)
    assert there == timing("30 12 * * *", "Asia/Tokyo").after(there - HOUR)
    assert here != there


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"schedule": "61 * * * *"}, "schedule_recurring_task('tick')"),
        ({"schedule": None}, '["schedule"]'),
        ({"timezone": "Mars/Olympus"}, '["timezone"]'),
        ({"overlap": "never"}, '["overlap"]'),
        ({"missed": "maybe"}, '["missed"]'),
        ({"priority": 101}, '["priority"]'),
        ({"queue_name": 5}, '["queue_name"]'),
        ({"args": "abc"}, '["args"]'),
        ({"args": [object()]}, '["args"][0]'),
        ({"kwargs": {"x": float("nan")}}, '["kwargs"]["x"]'),
        ({"kwargs": {5: 1}}, '["kwargs"]'),
        ({"key": ""}, "characters"),
        ({"key": "x" * 256}, "characters"),
        ({"task_path": "no path"}, '["task_path"]'),
        ({"task_path": "tests.tasks.nothing"}, "There is no task"),
        ({"task_path": "tests.tasks.sys"}, "is not a task"),
        ({"args": ["\0"]}, "NUL"),
        ({"description": 5}, '["description"]'),
        ({"description": "half \ud800"}, '["description"]'),
    ],
)
def test_what_means_nothing_is_refused_and_nothing_is_stored(wrong, said):
    with pytest.raises(WindlassError) as refused:
        schedule(**wrong)

    assert isinstance(refused.value, InvalidSchedule | EnqueueError)
    assert said in str(refused.value)
    assert not Schedule.objects.exists()


def test_a_rollback_takes_a_schedule_with_it():
    with transaction.atomic():
        schedule()
        transaction.set_rollback(True)

    assert not Schedule.objects.exists()


def test_unscheduling_says_how_many_and_leaves_static_ones():
    schedule()
    sync(fixed={"task_path": "tests.tasks.noop", "schedule": "@daily"})

    assert api.unschedule_recurring_task("tick") == 1
    assert api.unschedule_recurring_task("tick") == 0
    assert api.unschedule_recurring_task("fixed") == 0
    assert fresh("fixed").is_static


def test_a_paused_schedule_fires_nothing_and_resumes_with_its_next_due_time():
    schedule()
    was_due(hours=2)

    assert api.pause_recurring_task("tick") == 1
    tick().tick()
    assert not LiveJob.objects.exists()
    assert api.resume_recurring_task("tick") == 1
    assert api.resume_recurring_task("tick") == 0

    assert aware(fresh().next_due_at) > now()


def test_every_function_has_an_async_twin():
    async def life():
        await api.aschedule_recurring_task(
            key="a", task_path="tests.tasks.noop", schedule=60
        )
        said = [await api.apause_recurring_task("a")]
        said.append(await api.aresume_recurring_task("a"))
        said.append(await api.aunschedule_recurring_task("a"))
        # The thread that ran them keeps its connection for as long as it lives.
        await sync_to_async(connections.close_all)()
        return said

    assert asyncio.run(life()) == [1, 1, 1]


def test_dynamic_schedules_can_be_turned_off():
    schedule()
    was_due(hours=2)
    options = {"scheduler": {"dynamic_tasks_enabled": False}}

    with override_settings(TASKS={"default": {"BACKEND": BACKEND, "OPTIONS": options}}):
        with pytest.raises(InvalidSchedule, match="dynamic_tasks_enabled"):
            schedule("other")
        tick(**options).tick()

    assert not LiveJob.objects.exists()
    assert not Schedule.objects.filter(key="other").exists()


def test_keys_differ_by_case():
    schedule("Nightly")
    schedule("nightly")

    assert Schedule.objects.count() == 2


# From the settings


def entry(**said):
    return {"task_path": "tests.tasks.noop", "schedule": "@hourly", **said}


def test_static_schedules_become_those_of_the_settings():
    schedule("dynamic")
    sync(a=entry(), b=entry(priority=3, queue_name="mail"))
    due = was_due("b", hours=2)

    sync(b=entry(priority=4), c=entry())

    assert set(Schedule.objects.values_list("key", flat=True)) == {"dynamic", "b", "c"}
    assert (fresh("b").priority, fresh("b").queue_name) == (4, "")
    # A restart forgets nothing that was missed.
    assert aware(fresh("b").next_due_at) == due


def test_a_sync_that_changes_nothing_writes_nothing():
    entries = {f"s{n}": entry(args=(n,), kwargs={"x": [1.5]}) for n in range(20)}
    sync(**entries)

    with CaptureQueriesContext(connection) as captured:
        sync(**entries)

    assert len(captured) <= 2


def test_one_that_cannot_be_stored_or_imported_stops_no_other(said):
    schedule("taken")

    with said.at_level(logging.ERROR, "windlass"):
        sync(
            a_gone=entry(task_path="tests.tasks.gone"),
            b_nul=entry(args=["\0"]),
            taken=entry(),
            z_well=entry(),
        )

    assert fresh("z_well").next_due_at
    assert "There is no task" in fresh("a_gone").last_error
    assert not fresh("taken").is_static
    assert "'taken'" in said.text
    assert "unschedule_recurring_task('taken')" in said.text


def test_a_static_one_is_not_changed_by_the_api():
    sync(fixed=entry())

    with pytest.raises(InvalidSchedule, match=r'\["recurring"\]\["fixed"\] defines it'):
        schedule("fixed", schedule="@daily")

    assert fresh("fixed").schedule == "@hourly"


def test_nodes_that_start_at_once_make_each_schedule_once():
    gate = Barrier(3)

    def start():
        gate.wait()
        try:
            sync(a=entry(), b=entry())
        finally:
            connections["default"].close()

    for _each in range(5):
        Schedule.objects.all().delete()
        in_threads(start, 3)

        assert Schedule.objects.count() == 2


# Firing


def test_a_due_schedule_is_enqueued_and_knows_where_it_came_from():
    schedule(args=[1], kwargs={"b": 2}, priority=7, queue_name="mail")
    due = was_due(seconds=3599)

    tick().tick()

    job = Job.objects.get()
    assert (job.args, job.kwargs) == ([1], {"b": 2})
    assert (job.priority, job.queue_name, job.state) == (7, "mail", "ready")
    said = job.metadata["schedule"]
    assert said["key"] == "tick"
    assert datetime.fromisoformat(said["due_at"]) == marks()[0] >= due
    assert aware(fresh().next_due_at) > now()
    assert aware(fresh().last_due_at) == marks()[0]
    assert ScheduleMark.objects.get().job == job.pk


def test_a_task_reads_its_due_time_in_its_context():
    schedule(task_path="tests.tasks.look")
    was_due(minutes=61)

    tick().tick()

    assert run_one().return_value["metadata"]["schedule"]["key"] == "tick"


def test_a_task_made_by_djangos_own_decorator_is_scheduled_too():
    schedule(task_path="tests.test_recurring.plain", priority=2)
    was_due(minutes=61)

    tick().tick()

    job = Job.objects.get()
    assert (job.priority, job.metadata["schedule"]["key"]) == (2, "tick")
    assert run_one().return_value == "plain"


@pytest.mark.parametrize(
    ("missed", "fired"), [("latest", [0]), ("all", [3, 2, 1, 0]), ("skip", [])]
)
def test_what_was_missed_fires_as_the_schedule_says(missed, fired):
    schedule(missed=missed)
    was_due(hours=4)
    scheduler = tick()

    while fresh().next_due_at < db.dialect("default").now():
        scheduler.tick()

    latest = timing("@hourly", "UTC").after(now()) - HOUR
    # The hour may have turned since the schedule was made due.
    assert marks()[-4:] == [latest - HOUR * n for n in fired]
    assert LiveJob.objects.count() == len(marks())


def test_what_comes_while_a_scheduler_is_busy_is_not_missed():
    schedule(schedule="every 1s")
    scheduler = tick()
    scheduler.tick()
    was_due(seconds=20)
    scheduler._idle_at = now() - timedelta(seconds=21)

    while fresh().next_due_at <= db.dialect("default").now():
        scheduler.tick()

    found = marks()
    assert len(found) >= 20
    assert {b - a for a, b in pairwise(found)} == {timedelta(seconds=1)}


def test_a_clock_that_goes_back_fires_nothing_twice_and_stops_nothing():
    schedule()
    dialect, row = db.dialect("default"), fresh()
    future = (now() + timedelta(days=400)).replace(microsecond=0)
    Schedule.objects.filter(pk=row.pk).update(
        next_due_at=firing.stored(dialect, future)
    )
    # As a clock that is 400 days ahead would have it.
    firing.fire(dialect, fresh(), now=future, missed_before=future)
    assert aware(fresh().next_due_at) > future

    tick().tick()

    assert aware(fresh().next_due_at) < now() + HOUR + timedelta(seconds=2)
    Schedule.objects.update(next_due_at=firing.stored(dialect, future))
    firing.fire(dialect, fresh(), now=future, missed_before=future)
    assert LiveJob.objects.count() == 1


def test_removed_and_made_again_it_does_not_fire_the_same_time_twice():
    schedule()
    due = was_due(minutes=60)
    tick().tick()
    api.unschedule_recurring_task("tick")
    schedule()
    Schedule.objects.update(next_due_at=firing.stored(db.dialect("default"), due))

    tick().tick()

    assert LiveJob.objects.count() == 1


def test_many_at_once_fire_a_due_time_once():
    schedule(missed="all", schedule="every 1s")
    due = was_due(seconds=20)
    row, gate = fresh(), Barrier(4)

    def fire():
        gate.wait()
        try:
            firing.fire(db.dialect("default"), row, now=now(), missed_before=due)
        finally:
            connections["default"].close()

    in_threads(fire, 4)

    assert marks() == [due]
    assert LiveJob.objects.count() == 1


def test_what_fails_after_the_enqueue_leaves_it_due_and_nothing_enqueued():
    schedule()
    due = was_due(minutes=60)

    def fail(execute, sql, params, many, context):
        if sql.startswith("INSERT") and "windlass_schedule_mark" in sql:
            raise ZeroDivisionError
        return execute(sql, params, many, context)

    with connection.execute_wrapper(fail), pytest.raises(ZeroDivisionError):
        firing.fire(db.dialect("default"), fresh(), now=now(), missed_before=due)

    assert not LiveJob.objects.exists()
    assert aware(fresh().next_due_at) == due


def test_one_that_cannot_be_imported_stays_due_and_stops_no_other(said):
    schedule("bad")
    schedule("good")
    due = was_due("bad", minutes=60)
    was_due("good", minutes=60)
    Schedule.objects.filter(key="bad").update(task_path="tests.tasks.gone")
    scheduler = tick()

    with said.at_level(logging.ERROR, "windlass"):
        scheduler.tick()
        scheduler.tick()

    assert [job.metadata["schedule"]["key"] for job in Job.objects.all()] == ["good"]
    assert "There is no task 'tests.tasks.gone'" in fresh("bad").last_error
    assert said.text.count("'bad' cannot be fired") == 1
    assert aware(fresh("bad").next_due_at) == due
    # Once it is there, what was due fires, and the error is forgotten.
    Schedule.objects.filter(key="bad").update(task_path="tests.tasks.noop")
    tick().tick()
    assert LiveJob.objects.count() == 2
    assert fresh("bad").last_error == ""


def test_one_with_times_that_mean_nothing_stops_no_other():
    schedule("bad")
    schedule("good")
    was_due("bad", minutes=60)
    was_due("good", minutes=60)
    Schedule.objects.filter(key="bad").update(schedule="by hand")

    tick().tick()

    assert LiveJob.objects.count() == 1
    assert "ValueError" in fresh("bad").last_error


def test_without_use_tz_nothing_is_due_in_the_hour_that_comes_again():
    when = timing("every 30m", "UTC")
    first = datetime.fromisoformat("2026-10-25T02:30+02:00")

    with override_settings(USE_TZ=False):
        following = firing.storable(when, when.after(first))
        again = firing.aware(firing.stored(db.dialect("default"), following))

    assert following == datetime.fromisoformat("2026-10-25T03:00+01:00")
    # What is stored is read as the moment that it was.
    assert again == following


# Overlap


def test_skip_passes_over_a_due_time_while_the_job_before_is_live():
    schedule(overlap="skip", missed="all", schedule="every 1h")
    was_due(hours=3)
    scheduler = tick()
    scheduler.tick()
    scheduler.tick()

    assert LiveJob.objects.count() == 1
    assert len(marks()) == 2
    run_one()
    scheduler.tick()
    assert LiveJob.objects.count() == 1


def test_cancel_previous_cancels_what_waits():
    schedule(overlap="cancel_previous", missed="all", schedule="every 1h")
    was_due(hours=2)
    scheduler = tick()
    scheduler.tick()
    first = Job.objects.get().pk

    scheduler.tick()

    assert LiveJob.objects.count() == 1
    ended = EndedJob.objects.get()
    assert (ended.pk, ended.state) == (first, "cancelled")
    assert "'tick' is due again" in Job.objects.get(pk=first).errors[0].traceback


def test_cancel_previous_asks_a_running_one_to_stop():
    schedule(overlap="cancel_previous", missed="all", schedule="every 1h")
    was_due(hours=2)
    scheduler = tick()
    scheduler.tick()
    (claimed,) = api.claim_ready_jobs()

    scheduler.tick()

    assert str(CancelRequest.objects.get().job) == claimed.id
    assert LiveJob.objects.count() == 2


# Cost


def test_ten_thousand_schedules_that_are_not_due_cost_two_small_statements():
    dialect = db.dialect("default")
    far = firing.stored(dialect, now() + timedelta(days=1))
    Schedule.objects.bulk_create(
        [
            Schedule(
                backend_alias="default",
                key=f"s{n}",
                task_path="tests.tasks.noop",
                schedule="@daily",
                overlap="allow",
                missed="latest",
                is_static=False,
                next_due_at=far,
            )
            for n in range(10_000)
        ],
        batch_size=1000,
    )
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE windlass_schedule")
    scheduler = tick()
    scheduler.tick()

    with CaptureQueriesContext(connection) as captured:
        scheduler.tick()

    # One asks for the time, where the database's clock is another's.
    assert len(captured) <= 2
    assert sum(float(query["time"]) for query in captured) < 0.05
    plan = Schedule.objects.filter(
        backend_alias="default", next_due_at__lte=ago(hours=1)
    )
    assert "windlass_schedule_due" in plan.order_by("next_due_at")[:BATCH].explain()


def old_marks(*keys, days=5):
    made = ScheduleMark.objects.bulk_create(
        [
            ScheduleMark(
                backend_alias="default",
                key=key,
                due_at=ago(days=day),
                fired_at=ago(days=day),
                job=UUID(int=day),
            )
            for day in range(1, days + 1)
            for key in keys
        ]
    )
    return made


def test_old_marks_are_pruned_and_never_the_newest():
    old_marks("a", "b")
    dialect = db.dialect("default")
    newest = {key: marks(key)[-1] for key in ("a", "b")}

    assert firing.prune_marks(dialect, "default", before=ago(days=3), key="a") == 3
    assert firing.prune_marks(dialect, "default", before=ago(days=0), limit=4) == 4
    assert firing.prune_marks(dialect, "default", before=ago(days=0)) == 1
    assert firing.prune_marks(dialect, "default", before=ago(days=0)) == 0
    assert firing.prune_marks(dialect, "other", before=ago(days=0)) == 0

    assert {key: marks(key) for key in newest} == {k: [m] for k, m in newest.items()}


def test_the_mark_of_the_last_job_outlives_those_that_made_none():
    old_marks("a")
    ScheduleMark.objects.filter(due_at__gt=ago(days=3, hours=1)).update(job=None)

    firing.prune_marks(db.dialect("default"), "default", before=ago(days=0))

    kept = ScheduleMark.objects.order_by("due_at").values_list("job", flat=True)
    assert list(kept) == [UUID(int=4), None]


def test_the_pruner_deletes_old_marks_if_the_options_say_so():
    old_marks("a")
    entry = {"BACKEND": BACKEND, "OPTIONS": {}}

    Pruner(conf.parse("default", entry)).tick()
    assert len(marks("a")) == 5
    entry["OPTIONS"]["clear_recurring_executions_after"] = timedelta(days=2, hours=12)
    Pruner(conf.parse("default", entry)).tick()

    assert len(marks("a")) == 2


def test_the_command_deletes_old_marks_of_one_schedule_or_of_all():
    old_marks("a", "b")

    def prune(*arguments):
        out = StringIO()
        call_command("windlass_prune", *arguments, stdout=out)
        return out.getvalue().splitlines()[2:]

    assert prune() == []
    older = ("--recurring-older-than", "60h")
    assert prune(*older, "--dry-run") == ["Would delete 6 marks of schedules."]
    assert prune(*older, "--task-key", "a") == ["Deleted 3 marks of schedules."]
    assert prune(*older, "--batch-size", "1") == ["Deleted 3 marks of schedules."]
    assert len(marks("a")) == len(marks("b")) == 2


def in_threads(function, count):
    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(function) for _each in range(count)]:
            done.result()
