"""How many jobs of a limit ran at the same time, by the lines they left."""

from collections import defaultdict


class Limits:
    """The runs of all jobs that have a limit, by what they are limited by."""

    def __init__(self, faults):
        self.faults = faults
        self.runs = defaultdict(list)

    def note(self, about):
        """Add what is known of one job."""
        kind = about.kind
        if kind.limit is not None:
            name = about.job["task_path"].rpartition(".")[2]
            key = (f"{name} {about.job['args'][0]}", kind.limit)
            self.runs[key] += filter(self._counts, about.runs)

    def _counts(self, run):
        # Old code that lives on beside new has its own excuse, or is told of elsewhere.
        return not (self.faults.is_ghost(run) or self.faults.was_stopped(run))

    def broken(self):
        """Each limit that was passed, with the runs that passed it."""
        for (name, limit), runs in self.runs.items():
            going = []
            for run in sorted(runs, key=lambda run: run.began):
                going = [other for other in going if other.last > run.began] + [run]
                if len(going) > limit:
                    yield f"{len(going)} of {limit} ran at a time, {name}: {going}"
