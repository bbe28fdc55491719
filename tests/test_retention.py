"""Which ended jobs go, and when: the options, the pruner, the command."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from tests.contract.rows import NODE, end, several, take
from windlass import conf
from windlass.db import dialect as make_dialect
from windlass.exceptions import ConfigurationError
from windlass.jobs import lifecycle
from windlass.jobs.retention import FAILED, FINISHED, Pruning, Retention
from windlass.models import EndedJob, LiveJob
from windlass.runtime.pruner import Pruner

pytestmark = pytest.mark.django_db(transaction=True)
DAY = 86_400.0


@pytest.fixture
def db():
    return make_dialect("default")


@pytest.fixture
def ended(db):
    """Store jobs that ended in a state some days ago; their ids."""

    def ended(count=1, *, state="succeeded", days=0.0, **columns):
        db.insert_many([job._replace(**columns) for job in several(count)])
        queue, alias = columns.get("queue_name"), columns.get("backend_alias")
        lanes = [lifecycle.Lane(queue or "default", 0)]
        jobs = db.claim(NODE, alias or "default", lanes, count)
        moment = db.now().timestamp() - days * DAY
        db.finish(NODE, [end(job, state, finished_at=moment) for job in jobs])
        return {job.id for job in jobs}

    return ended


@pytest.fixture
def options(settings):
    """The options of the default backend, as the settings would say them."""

    def options(**said):
        entry = settings.TASKS["default"]
        changed = {**entry, "OPTIONS": {**entry.get("OPTIONS", {}), **said}}
        settings.TASKS = {**settings.TASKS, "default": changed}
        return conf.options("default")

    return options


def kept():
    return {str(id) for id in EndedJob.objects.values_list("id", flat=True)}


def test_by_default_a_day_for_what_is_finished_and_for_ever_for_failures(
    ended, options
):
    old, young = ended(3, days=1.1), ended(2, days=0.9)
    cancelled = ended(state="cancelled", days=2)
    failed = ended(state="failed", days=1000)

    Pruner(options()).tick()

    assert kept() == young | failed
    assert not kept() & (old | cancelled)


def test_failures_go_after_their_own_time(ended, options):
    old, young = ended(state="failed", days=8), ended(state="failed", days=6)

    Pruner(options(clear_failed_jobs_after=7 * DAY)).tick()

    assert kept() == young
    assert not kept() & old


def test_none_keeps_for_ever(ended, options):
    ids = ended(2, days=4000)

    Pruner(options(clear_finished_jobs_after=None)).tick()

    assert kept() == ids


def test_results_that_are_not_to_be_kept_go_at_once_and_only_successes(ended, options):
    ended(2)
    others = ended(state="cancelled") | ended(state="failed")
    pruner = Pruner(options(preserve_finished_jobs=False))

    assert pruner.tick() <= 1

    assert kept() == others


def test_work_that_has_not_ended_is_never_touched(db, ended, options):
    db.insert_many(several(3))
    (running,) = take(db)

    Pruner(options(clear_finished_jobs_after=0, clear_failed_jobs_after=0)).tick()

    assert LiveJob.objects.count() == 3
    assert str(LiveJob.objects.running().get().id) == running.id


def test_another_backend_keeps_its_own(ended, options):
    ended(days=2)
    theirs = ended(days=2, backend_alias="other")

    Pruner(options()).tick()

    assert kept() == theirs


def test_a_pruner_with_more_to_do_pauses_as_long_as_it_worked(
    ended, options, monkeypatch
):
    monkeypatch.setattr("windlass.runtime.pruner.BATCH", 2)
    ended(5, days=2)
    pruner = Pruner(options())

    pauses = [pruner.tick() for _each in range(3)]

    assert not kept()
    assert max(pauses[:2]) < 1
    assert pauses[2] > 30


def test_what_is_kept_for_ever_is_walked_past_once_only(db, ended):
    ended(3, state="failed", days=10)
    ended(2, days=9)
    ended(2, days=8)
    pruning = Pruning(
        db, Retention(backend_alias="default", states=FINISHED, age=timedelta(0)), 2
    )

    assert pruning.step() == 2
    assert pruning.since is not None
    ids = ended(1, days=20)
    assert [pruning.step(), pruning.step()] == [2, 0]
    assert ids <= kept()

    pruning.look_everywhere()
    assert pruning.step() == 1
    assert EndedJob.objects.count() == 3


def test_a_failure_that_was_discarded_goes_with_the_finished(db, ended):
    ids = ended(state="failed", days=10)
    pruning = Pruning(
        db,
        Retention(backend_alias="default", states=FINISHED, age=timedelta(days=1)),
    )
    assert pruning.all() == 0

    lifecycle.discard(db, list(ids))

    assert pruning.all() == 1


def test_a_stop_is_heard_between_two_batches(db, ended):
    ended(4, state="failed")
    pruning = Pruning(
        db, Retention(backend_alias="default", states=FAILED, age=timedelta(0)), 1
    )
    answers = iter([False, False, True])

    assert pruning.all(lambda: next(answers)) == 2


@pytest.mark.parametrize(
    ("said", "path"),
    [
        ({"clear_finished_jobs_after": -1}, "clear_finished_jobs_after"),
        ({"clear_failed_jobs_after": "7d"}, "clear_failed_jobs_after"),
        ({"preserve_finished_jobs": 0}, "preserve_finished_jobs"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_their_path(options, said, path):
    with pytest.raises(ConfigurationError, match=rf'\["OPTIONS"\]\["{path}"\]'):
        options(**said)


def test_a_timedelta_is_an_age(options):
    said = options(clear_finished_jobs_after=timedelta(hours=2))

    assert said.clear_finished_jobs_after == 7200


# The command


def prune(*arguments):
    out = StringIO()
    call_command("windlass_prune", *arguments, stdout=out)
    return out.getvalue().splitlines()


def test_the_command_applies_the_options(ended):
    ended(3, days=2)
    ended(state="failed", days=2)

    assert prune() == ["Deleted 3 finished jobs.", "Failed jobs are kept."]


def test_ages_of_the_command_line_win(ended):
    ended(2, days=0.5)
    ended(3, state="failed", days=8)
    ended(state="failed", days=6)

    said = prune("--older-than", "6h", "--failed-older-than", "7d", "--batch-size", "1")

    assert said == ["Deleted 2 finished jobs.", "Deleted 3 failed jobs."]
    assert EndedJob.objects.count() == 1


def test_a_dry_run_counts_and_deletes_nothing(ended):
    ended(3, days=2)

    assert prune("--dry-run")[0] == "Would delete 3 finished jobs."
    assert EndedJob.objects.count() == 3


def test_one_queue_or_one_task_alone(ended):
    ended(2, days=2, queue_name="mail")
    ended(3, days=2, task_path="tests.tasks.boom")
    ended(4, days=2)

    assert prune("--queue", "mail")[0] == "Deleted 2 finished jobs."
    said = prune("--task-path", "tests.tasks.boom")
    assert said[0] == "Deleted 3 finished jobs."
    assert EndedJob.objects.count() == 4


@pytest.mark.parametrize("age", ["soon", "-3", "1y", ""])
def test_an_age_that_is_none_is_refused(age):
    with pytest.raises(CommandError, match="--older-than must be seconds") as error:
        prune("--older-than", age)
    assert error.value.returncode == 2
