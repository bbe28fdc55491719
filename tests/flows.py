"""Running workflows inside a test: by hand, one job after another."""

from windlass import conf
from windlass.api import claim_ready_jobs, execute_claimed_job
from windlass.workflows.reconciler import Reconciler


def drain(*, pick=lambda jobs: jobs[0], most=100_000):
    """Run ready jobs, one claim each, until there are none; give back their results."""
    done = []
    while len(done) < most and (claimed := claim_ready_jobs(1)):
        done.append(execute_claimed_job(claimed[0]))
    return done


def outcomes(run):
    """How each member of a run ended, by its name."""
    return dict(run.members.values_list("name", "outcome"))


def names(flow, *wanted):
    """Members of a flow by their names."""
    return [member for member in flow.members if member.name in wanted]


def reconcile(*, prune=False):
    """Let a reconciler look at everything once."""
    service = Reconciler(conf.options("default"))
    if prune:
        service._prune_at = 0.0
    service.tick()
