"""From one step to the next: one guarded statement that takes the workspace along."""

import json

import pytest

from tests.contract.rows import NODE, OTHER, back, end, ended, live, new, state, take
from windlass.db import Advanced, rare

PLAN = {"tasks": ["tests.tasks.add", "tests.tasks.noop"], "hooks": {}}


@pytest.fixture
def job(dialect):
    """A claimed job at the first of two steps."""
    columns = {"name": "two", "plan": json.dumps(PLAN), "workspace": '{"a": 1}'}
    rare.insert_planned(dialect, new(policy={"step": 0})._replace(**columns))
    (job,) = take(dialect)
    return job


def next_step(job, **columns):
    said = {
        "task_path": "tests.tasks.noop",
        "max_attempts": 4,
        "policy": '{"step": 1}',
        "history": '[{"attempt": 1}]',
        "workspace": '{"a": 2, "é": "\\ud83d\\ude80"}',
        "ran": 0.25,
    }
    return Advanced(job.id, job.claim, **{**said, **columns})


def test_a_job_waits_at_its_next_step(dialect, job):
    assert dialect.advance(NODE, [next_step(job)]) == {job.id}

    row = live(job)
    assert (row.node, row.started_at, row.hold) == (None, None, "")
    assert (row.task_path, row.max_attempts, row.attempts) == ("tests.tasks.noop", 4, 0)
    assert (row.policy, row.history) == ({"step": 1}, [{"attempt": 1}])
    assert (row.name, row.plan) == ("two", PLAN)
    assert row.workspace == {"a": 2, "é": "🚀"}
    (again,) = take(dialect)
    assert (again.id, again.claim, again.attempts) == (job.id, 2, 1)


@pytest.mark.parametrize(("node", "claims"), [(OTHER, 0), (NODE, 1)])
def test_who_does_not_hold_the_job_moves_nothing(dialect, job, node, claims):
    stale = next_step(job)._replace(claim=job.claim + claims)

    assert dialect.advance(node, [stale]) == set()

    row = live(job)
    assert (state(job), row.task_path) == ("running", "tests.tasks.add")
    assert row.workspace == {"a": 1}


def test_several_advance_at_once_and_each_for_itself(dialect, job):
    rare.insert_planned(
        dialect, new(policy={"step": 0})._replace(plan=json.dumps(PLAN), workspace="{}")
    )
    (other,) = take(dialect)

    moved = dialect.advance(
        NODE, [next_step(job), next_step(other, workspace='{"b": 1}')]
    )

    assert moved == {job.id, other.id}
    assert live(job).workspace["a"] == 2
    assert live(other).workspace == {"b": 1}


def test_an_end_may_bring_the_workspace(dialect, job):
    dialect.finish(NODE, [end(job, workspace='{"a": 3}')])

    row = ended(job)
    assert (row.workspace, row.plan, row.name) == ({"a": 3}, PLAN, "two")


def test_an_end_that_brings_none_leaves_the_workspace(dialect, job):
    dialect.finish(NODE, [end(job)])

    assert ended(job).workspace == {"a": 1}


@pytest.mark.parametrize(("text", "stored"), [('{"a": 5}', {"a": 5}), (None, {"a": 1})])
def test_a_job_that_goes_back_may_bring_the_workspace(dialect, job, text, stored):
    dialect.put_back(NODE, [back(job, workspace=text)])

    assert live(job).workspace == stored
    assert live(job).task_path == "tests.tasks.add"
