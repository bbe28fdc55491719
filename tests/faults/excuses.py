"""What befell which process, to be asked by who looks for an excuse."""

from collections import defaultdict

from tests.faults.strikes import HEARTBEAT, THRESHOLD, Strike

# What tasks do to their own process: end it, or not end when they are told to.
BY_TASKS = {"die", "deaf"}
# Strikes after which a process stops, and those after which it is no more.
STOPS = {"kill_supervisor", "deploy", "insist", "deaf"}
DEADLY = {"kill_one", "kill_all", "die"} | STOPS
# While these last, nobody's heartbeat is written.
BLOCKING = {"restart_server", "fill_disk", "cut"}


class Faults:
    """The strikes of a storm, and the deaths that tasks brought about themselves."""

    def __init__(self, strikes, lines):
        # Runs of code that is told to stop sooner or later.
        self.told = []
        strikes = [*strikes, *_by_tasks(lines)]
        self.strikes = strikes
        self.deadly = _pids(strikes, DEADLY)
        self.stopped = _pids(strikes, STOPS)
        self.frozen = defaultdict(list)
        blocking = [strike for strike in strikes if strike.what in BLOCKING]
        for strike in strikes:
            if strike.what == "freeze" and _is_long(strike, blocking):
                for pid in strike.pids:
                    self.frozen[pid].append(strike)
        self.steps = [strike for strike in strikes if strike.what == "step_clock"]

    def is_ghost(self, run):
        """Whether it may have been given up while its process stood still."""
        return any(
            strike.began <= run.last or not run.has_ended
            for pid in run.pids
            for strike in self.frozen.get(pid, ())
        )

    @property
    def had_deaf_code(self):
        """Whether workers had to end because some code did not."""
        return any(strike.what == "deaf" for strike in self.strikes)

    def stood_still(self, run):
        """Whether its process stood still at some time, for however long."""
        return any(
            strike.what == "freeze" and strike.pids & run.pids
            for strike in self.strikes
        )

    def killed(self, pids):
        """Whether any of these processes was killed or asked to end."""
        return bool(pids & self.deadly)

    def was_stopped(self, run):
        """Whether it may have been taken from a process that was to end."""
        return any(
            strike.pids & run.pids
            and (not run.has_ended or run.last > strike.began)
            and (strike.what in STOPS or self._had_told_code(strike))
            for strike in self.strikes
            if strike.what in DEADLY
        )

    def _had_told_code(self, strike):
        # When code was told to stop and the process is gone, that was for its sake, as
        # far as anyone can tell: its neighbours go back without a crash.
        return any(
            told.pids & strike.pids
            and told.began <= strike.began
            and not (told.has_ended and told.last < strike.began)
            for told in self.told
        )

    def froze(self, pids):
        """Whether any of these processes stood still too long."""
        return bool(pids & self.frozen.keys())

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


def _pids(strikes, names):
    return set().union(*(strike.pids for strike in strikes if strike.what in names))


def _is_long(strike, blocking):
    if strike.lasted > THRESHOLD - 2 * HEARTBEAT:
        return True
    # It could not beat before, or not afterwards either.
    return any(
        other.began < strike.began + strike.lasted + THRESHOLD
        and other.began + other.lasted + THRESHOLD > strike.began
        for other in blocking
    )
