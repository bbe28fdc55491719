"""Running jobs in the test's own thread, with the functions that scripts use."""

from windlass.api import claim_ready_jobs, execute_claimed_job
from windlass.models import Job


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
