"""What the journal says of one job: each time its code ran, and who ran it."""

from dataclasses import dataclass

# The last lines of code that came to an end of its own making.
ENDS = {"end", "fail", "snooze"}


@dataclass
class Execution:
    """One run of a job's code, from its first line to the last one known of."""

    attempt: int
    pid: int
    parent: int
    began: float
    # By the clock that nobody sets, and by the task's.
    last: float
    last_time: float
    began_time: float
    event: str = "start"

    @property
    def has_ended(self):
        """Whether the code said that it ended, well or badly."""
        return self.event in ENDS

    @property
    def pids(self):
        """Its process, and the one that started that."""
        return {self.pid, self.parent}


def executions(lines):
    """Put the lines of one job together, in the order of their beginning."""
    found, latest = [], {}
    for line in sorted(lines, key=lambda line: line.tick):
        who = (line.pid, line.attempt)
        if line.event == "start":
            times = (line.tick, line.tick, line.time, line.time)
            latest[who] = Execution(line.attempt, line.pid, line.parent, *times)
            found.append(latest[who])
        elif who in latest:
            run = latest[who]
            run.last, run.last_time, run.event = line.tick, line.time, line.event
    return found
