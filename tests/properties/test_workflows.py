"""Workflows of any shape end as a model says that runs them from front to back."""

from random import Random

import pytest
from django.db import connections
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.flow_model import expected, written
from tests.flows import drain, outcomes
from windlass.models import LiveJob
from windlass.workflows.models import WorkflowMember

EXAMPLES = {"sqlite": 60, "postgresql": 40, "mysql": 10}


def values(run):
    """What each job of a run gave back, by its member's name."""
    found = {job.pk: job.return_value for job in run.jobs}
    return {name: found[id] for name, id in run.members.values_list("name", "pk")}


def judge(flow, run):
    run.refresh()
    model = expected(flow)
    assert outcomes(run) == model.outcomes
    assert values(run) == model.values
    assert run.state == model.state
    assert not WorkflowMember.objects.filter(run=run.pk, is_open=True).exists()
    assert not LiveJob.objects.exists()


def test_a_run_ends_as_the_model_says(committed):
    @settings(
        max_examples=EXAMPLES[connections["default"].vendor],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 2**32), st.integers(1, 14))
    def check(seed, size):
        flow = written(Random(seed), size)
        run = flow.enqueue()
        drain()
        judge(flow, run)

    check()


@pytest.mark.parametrize("seed", range(3))
def test_a_large_run_ends_as_the_model_says(committed, seed):
    flow = written(Random(seed), 150)
    run = flow.enqueue()
    drain()
    judge(flow, run)
