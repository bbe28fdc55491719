"""Running jobs in the test's own thread, with the functions that scripts use."""

from windlass.api import claim_ready_jobs, execute_claimed_job
from windlass.conf import WorkerOptions
from windlass.jobs.limits import Limits
from windlass.models import Job
from windlass.runtime.claimer import Claimer
from windlass.runtime.flusher import Flusher
from windlass.runtime.handover import Handover


def run_ready(limit=100):
    """Run what is ready now; give the results in the order they ran."""
    return [execute_claimed_job(claimed) for claimed in claim_ready_jobs(limit)]


def run_one():
    """Run the one job that would be next."""
    (result,) = run_ready(1)
    return result


def fresh(result):
    """The job of a result as the database has it now."""
    return Job.objects.get(pk=result.id)


def make_claimer(db, node, limits=None, **options):
    """A claimer of the default backend, as a worker process has one."""
    limits = limits or Limits("default", {})
    own = WorkerOptions(**options)
    return Claimer(db, node, "default", own, limits=limits, handover=Handover(None))


def make_flusher(db, executor, ledger):
    """A flusher whose jobs have no limits."""
    return Flusher(
        db,
        executor,
        ledger,
        settled=lambda reports: None,
        limits=Limits("default", {}),
        handover=Handover(None),
    )
