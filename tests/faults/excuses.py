"""What befell which process, to be asked by who looks for an excuse."""

from collections import defaultdict

from tests.faults.strikes import HEARTBEAT, THRESHOLD, Strike

# What tasks do to their own process: end it, or not end when they are told to.
BY_TASKS = {"die", "deaf"}
# Strikes after which a process stops, and those after which it is no more.
STOPS = {"kill_supervisor", "kill_fork_server", "deploy", "insist", "deaf"}
DEADLY = {"kill_one", "kill_all", "die"} | STOPS
# While these last, nobody's heartbeat is written.
BLOCKING = {"restart_server", "fill_disk", "cut"}
# Seconds around an execution in which a strike at its process may concern it.
NEAR = 60.0


class Faults:
    """The strikes of a storm, and the deaths that tasks brought about themselves."""

    def __init__(self, strikes, lines):
        self.strikes = [*strikes, *_by_tasks(lines)]
        self.steps = [strike for strike in strikes if strike.what == "step_clock"]
        blocking = [strike for strike in strikes if strike.what in BLOCKING]
        self.long = {
            id(strike)
            for strike in strikes
            if strike.what == "freeze" and _is_long(strike, blocking)
        }
        self.by_pid = defaultdict(list)
        for strike in self.strikes:
            for pid in strike.pids:
                self.by_pid[pid].append(strike)

    def _on(self, run):
        # Numbers of processes come round again, on some machines within minutes.
        return [
            strike
            for pid in run.pids
            for strike in self.by_pid.get(pid, ())
            if run.began - NEAR < strike.began < run.last + NEAR
        ]

    def is_ghost(self, run):
        """Whether it may have been given up while its process stood still."""
        return any(
            id(strike) in self.long and (strike.began <= run.last or not run.has_ended)
            for strike in self._on(run)
        )

    def stood_still(self, run):
        """Whether its process stood still at some time, for however long."""
        return any(strike.what == "freeze" for strike in self._on(run))

    def was_stopped(self, run):
        """Whether it may have been taken from a process that was asked to end."""
        return any(
            strike.what in STOPS and (not run.has_ended or run.last > strike.began)
            for strike in self._on(run)
        )

    def befell(self, run):
        """Whether its process was killed, asked to end, or stood still too long."""
        return any(self._is_fatal(strike) for strike in self._on(run))

    def befell_process(self, pid):
        """The same of a process that has left no line, whenever it was."""
        return any(self._is_fatal(strike) for strike in self.by_pid.get(pid, ()))

    def _is_fatal(self, strike):
        return strike.what in DEADLY or id(strike) in self.long

    @property
    def had_deaf_code(self):
        """Whether workers had to end because some code did not."""
        return any(strike.what == "deaf" for strike in self.strikes)

    def clock_was_set(self, began, ended):
        """Whether the time of day means nothing between two moments."""
        return any(
            strike.began - 1 < ended and (strike.ended or ended) + 1 > began
            for strike in self.steps
        )


def _by_tasks(lines):
    return [
        Strike(line.event, frozenset([line.pid]), line.tick, line.time)
        for line in lines
        if line.event in BY_TASKS
    ]


def _is_long(strike, blocking):
    if strike.lasted > THRESHOLD - 2 * HEARTBEAT:
        return True
    # It could not beat before, or not afterwards either.
    return any(
        other.began < strike.began + strike.lasted + THRESHOLD
        and other.began + other.lasted + THRESHOLD > strike.began
        for other in blocking
    )
