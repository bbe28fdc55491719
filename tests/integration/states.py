"""What the database says about jobs, in short."""

from collections import Counter

from tests.integration.project import tasks
from windlass import api, watcher
from windlass.models import Job, LiveJob, Node
from windlass.runtime import ledger


def states():
    """How many jobs are in each state."""
    return dict(Counter(Job.objects.values_list("state", flat=True)))


def job(result):
    """A job as it is now."""
    return Job.objects.get(pk=result.id)


def wait_without_looks(monkeypatch):
    """Wait for jobs that only a note can tell of: by looks it would take for ever."""
    for pause in ("SOON", "SELDOM"):
        monkeypatch.setattr(watcher, pause, 600.0)
    for _ in range(20):
        found = api.wait_for_completion(tasks.work.enqueue().id, timeout=None)
        assert found.state == "succeeded"


def running():
    """How many jobs some node holds."""
    return LiveJob.objects.running().count()


def ledgers():
    """Where the registered workers keep their ledgers."""
    workers = Node.objects.filter(kind=Node.Kind.WORKER)
    return [ledger.path_of(node) for node in workers.values_list("pk", flat=True)]
