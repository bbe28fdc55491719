"""
What a storm does to a fleet: one function for each fault.

A fault that lasts is a generator: it strikes, says for how many seconds, and goes on
when that time has passed to undo what it did, or when it is closed. Meanwhile other
faults strike.
"""

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from django.db import Error

from tests.faults.fleet import signal_one
from tests.integration.runtime import family

HEARTBEAT, THRESHOLD, STOP_GRACE = 0.5, 5.0, 1.0
# What a runtime says when it handles signals.
STARTED = "Stop with Ctrl-C"
# How long a runtime may take to stop: what runs may end, the last records are written.
STOPS_WITHIN = 60.0


@dataclass
class Strike:
    """What was done to whom, and when: by a clock that nobody sets, and by the time."""

    what: str
    pids: frozenset[int]
    began: float = field(default_factory=time.monotonic)
    time: float = field(default_factory=time.time)
    ended: float | None = None
    # Seconds that the clock was ahead while this lasted.
    offset: float = 0.0

    @property
    def lasted(self):
        """Seconds from its begin to its end."""
        return (time.monotonic() if self.ended is None else self.ended) - self.began


@dataclass(frozen=True)
class Fault:
    """A way to strike, how often it is drawn, and whether this place allows it."""

    name: str
    share: float
    strike: Callable
    possible: Callable


FAULTS: dict[str, Fault] = {}


def fault(share, possible=lambda storm: True):
    """Declare a function as a fault."""

    def declare(function):
        name = function.__name__
        FAULTS[name] = Fault(name, share, function, possible)
        return function

    return declare


# Death


@fault(6)
def kill_one(storm):
    """SIGKILL a worker, a dispatcher, a rescuer or a task's own process."""
    runtime = storm.pick(storm.fleet.living)
    victims = set(storm.fleet.family(runtime)) - {runtime.pid}
    if victims:
        pid = storm.pick(sorted(victims))
        # A worker without its fork server stops, and a fresh one takes its place.
        what = "kill_fork_server" if storm.fleet.forks_for(pid) else "kill_one"
        storm.note(what, storm.fleet.kin(pid))
        signal_one(pid, signal.SIGKILL)


@fault(1)
def kill_supervisor(storm):
    """SIGKILL a supervisor, and start another runtime."""
    runtime = storm.pick(storm.fleet.living)
    # Those it leaves alone stop by themselves.
    storm.note("kill_supervisor", storm.fleet.family(runtime))
    runtime.process.kill()
    runtime.process.wait()
    storm.fleet.replace(runtime)


@fault(0.5)
def kill_all(storm):
    """SIGKILL a runtime's process group, as the end of a container does."""
    runtime = storm.pick(storm.fleet.living)
    storm.note("kill_all", storm.fleet.family(runtime))
    runtime.send_to_group(signal.SIGKILL)
    runtime.process.wait()
    storm.fleet.replace(runtime)


# Silence


@fault(2)
def freeze_briefly(storm):
    """SIGSTOP one process for less time than makes a node silent."""
    runtime = storm.pick(storm.fleet.living)
    pids = storm.fleet.family(runtime)
    yield from _freeze(storm, [storm.pick(pids)], (0.1, THRESHOLD / 2))


@fault(0.5)
def freeze_one(storm):
    """SIGSTOP one process until others take its work over."""
    runtime = storm.pick(storm.fleet.living)
    pids = storm.fleet.family(runtime)
    yield from _freeze(storm, [storm.pick(pids)], (THRESHOLD, 1.6 * THRESHOLD))


@fault(0.5)
def freeze_all(storm):
    """SIGSTOP a whole runtime, as a suspended machine is."""
    runtime = storm.pick(storm.fleet.living)
    yield from _freeze(storm, storm.fleet.family(runtime), (0.5, 1.6 * THRESHOLD))


def _freeze(storm, pids, seconds):
    pids = [pid for pid in pids if pid]
    strike = storm.note("freeze", set().union(*map(family, pids)))
    for pid in pids:
        signal_one(pid, signal.SIGSTOP)
    try:
        yield storm.between(*seconds)
    finally:
        for pid in pids:
            signal_one(pid, signal.SIGCONT)
        strike.ended = time.monotonic()


# Stops


@fault(1)
def deploy(storm):
    """SIGTERM: what runs may end, and the exit code is 0."""
    yield from _stop(storm, "deploy", insist=False)


@fault(0.5)
def insist(storm):
    """SIGTERM twice: what runs is handed back at once."""
    yield from _stop(storm, "insist", insist=True)


def _stop(storm, what, *, insist):
    # One that is only starting ends by the signal itself, as any program does.
    started = [r for r in storm.fleet.serving if STARTED in r.said()]
    runtime = storm.pick(started)
    if runtime is None:
        return
    storm.fleet.replace(runtime)
    strike = storm.note(what, storm.fleet.family(runtime))
    runtime.send(signal.SIGTERM)
    if insist:
        yield storm.between(0.4, 1)
        with suppress(ProcessLookupError):
            runtime.send(signal.SIGTERM)
    while runtime.process.poll() is None:
        if strike.lasted > STOPS_WITHIN:
            storm.fleet.broken.append(f"runtime {runtime.pid} does not stop: {what}")
            return
        yield 0.1
    strike.ended = time.monotonic()
    code = runtime.process.poll()
    # One that was struck otherwise meanwhile has its excuse.
    if code and not storm.is_excused(strike):
        storm.fleet.broken.append(f"runtime {runtime.pid} exited with {code}: {what}")


# The database


@fault(1, possible=lambda storm: storm.place.can_cut)
def cut(storm):
    """End the connections of all others."""
    storm.note("cut")
    with suppress(Error):
        storm.place.cut()


@fault(0.5, possible=lambda storm: storm.place.server is not None)
def restart_server(storm):
    """Stop the database server as a power cut would, and start it again."""
    strike = storm.note("restart_server")
    with storm.database_away():
        storm.place.server.stop()
        try:
            yield storm.between(0, 3)
        finally:
            storm.place.server.start()
            strike.ended = time.monotonic()


@fault(1, possible=lambda storm: storm.place.disk is not None)
def fill_disk(storm):
    """Leave the database's disk no room to write."""
    strike = storm.note("fill_disk")
    with storm.database_away():
        storm.place.fill()
        try:
            yield storm.between(0.2, 3)
        finally:
            storm.place.free()
            strike.ended = time.monotonic()


# The clock


@fault(0.5, possible=lambda storm: storm.clock is not None)
def step_clock(storm):
    """Set the clock of all processes forth or back, and right again."""
    # On PostgreSQL the server's clock says what is due. Elsewhere a job is stamped by
    # who enqueues it, and if that clock is ahead, waits for the time to come.
    most = 600 if storm.place.database == "postgresql" else 15
    strike = storm.note("step_clock")
    strike.offset = round(storm.between(-most, most))
    storm.clock.set(strike.offset)
    try:
        yield storm.between(0.5, 4)
    finally:
        storm.clock.set(0)
        strike.ended = time.monotonic()
