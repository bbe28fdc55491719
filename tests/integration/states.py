"""What the database says about jobs, in short."""

from collections import Counter

from windlass.models import Job, LiveJob, Node
from windlass.runtime import ledger


def states():
    """How many jobs are in each state."""
    return dict(Counter(Job.objects.values_list("state", flat=True)))


def job(result):
    """A job as it is now."""
    return Job.objects.get(pk=result.id)


def running():
    """How many jobs some node holds."""
    return LiveJob.objects.running().count()


def ledgers():
    """Where the registered workers keep their ledgers."""
    workers = Node.objects.filter(kind=Node.Kind.WORKER)
    return [ledger.path_of(node) for node in workers.values_list("pk", flat=True)]
