"""The runtimes that a fault suite strikes at: started, counted, stopped, replaced."""

import os
import signal
from contextlib import suppress

from tests.integration.project.journal import Journal
from tests.integration.runtime import (
    Runtime,
    carrying,
    environment,
    family,
    parent,
)
from tests.waiting import eventually


class Fleet:
    """Runtimes on one database, and the journal their tasks write."""

    def __init__(self, directory, *, options, env=None):
        self.directory, self.options, self.env = directory, options, env or {}
        self.journal = Journal(directory / "journal")
        self.runtimes = []
        # Those that were asked to stop, or killed.
        self.leaving = set()
        self.broken = []
        self.orphans = []

    def start(self):
        """Start one more runtime."""
        env = environment(self.journal.path, options=self.options, **self.env)
        output = self.directory / f"runtime-{len(self.runtimes) + 1}.log"
        self.runtimes.append(Runtime(output, env=env))
        return self.runtimes[-1]

    @property
    def living(self):
        """The runtimes whose supervisor runs."""
        return [r for r in self.runtimes if r.process.poll() is None]

    @property
    def serving(self):
        """The runtimes that nobody has asked to stop."""
        return [r for r in self.living if r not in self.leaving]

    def family(self, runtime):
        """Every process of a runtime, those with a process group of their own too."""
        return sorted(set(runtime.processes()) | set(family(runtime.pid)))

    def kin(self, pid):
        """The processes whose jobs suffer when one is struck."""
        found = {pid, *family(pid)}
        if worker := self.forks_for(pid):
            found |= {worker, *family(worker)}
        return found

    def forks_for(self, pid):
        """The worker that cannot do without this process, if it is a fork server."""
        supervisors = {runtime.pid for runtime in self.runtimes}
        with suppress(IndexError):
            above = parent(pid)
            if above not in supervisors and parent(above) in supervisors:
                return above
        return None

    def replace(self, runtime):
        """Start another runtime for one that is about to go, once."""
        if runtime not in self.leaving:
            self.leaving.add(runtime)
            self.start()

    def watch(self):
        """Replace runtimes that ended though nobody asked them to, and tell on them."""
        for runtime in self.runtimes:
            code = runtime.process.poll()
            if runtime not in self.leaving and code is not None:
                self.broken.append(f"runtime {runtime.pid} ended by itself with {code}")
                self.replace(runtime)

    def stop(self, *, timeout=60):
        """Ask all to stop and wait: for them, and for whatever they leave behind."""
        serving = self.serving
        self.leaving.update(serving)
        for runtime in serving:
            runtime.send(signal.SIGTERM)
        for runtime in self.runtimes:
            try:
                code = runtime.wait(timeout)
            except AssertionError:
                self.broken.append(f"runtime {runtime.pid} does not stop")
                continue
            if runtime in serving and code:
                self.broken.append(f"runtime {runtime.pid} exited with {code}")
        try:
            eventually(lambda: not self.left_behind())
        except AssertionError:
            self.orphans = self.left_behind()

    def left_behind(self):
        """Every process that these runtimes and their tasks have started."""
        return carrying(self.journal.path)

    def kill(self):
        """End everything at once."""
        for runtime in self.runtimes:
            runtime.kill()
        for pid in self.left_behind():
            signal_one(pid, signal.SIGKILL)


def signal_one(pid, number):
    """Signal a process, if it is still there."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
