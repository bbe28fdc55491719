"""Processes of a project: each way to run, to say something, and not to end."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid

from django.db import connections, models, transaction

from windlass import Cancel
from windlass.processes.models import BaseProcess, BaseProcessLog

logger = logging.getLogger("reports")


class Report(BaseProcess):
    """Does what ``kind`` says."""

    max_attempts = 1

    kind = models.CharField(max_length=50, default="well")
    given = models.JSONField(default=dict)
    result = models.CharField(max_length=200, default="")

    def run(self):
        return getattr(self, f"do_{self.kind}")(**self.given)

    def note(self, text):
        """Keep something for the test to see, in a column of the user's own."""
        self.result = text
        self.save()

    def do_well(self):
        self.log("It goes well.")
        self.note(f"{os.getpid()} {os.getpgrp()} {time.time()}")

    def do_fail(self):
        raise ValueError("It goes wrong.")

    def do_cancel(self):
        raise Cancel("It is not wanted.")

    def do_exit(self, status=3):
        sys.exit(status)

    def do_vanish(self, status=3):
        self.log("Before.")
        os._exit(status)

    def do_say(self):
        """Say something in every way."""
        self.log("said", level="debug")
        logger.warning("recorded %s", 1)
        print("printed")  # noqa: T201
        print("on the other", file=sys.stderr)  # noqa: T201
        subprocess.run(["echo", "by a program"], check=True)
        for number in range(20):
            print("even", 2 * number)  # noqa: T201
            self.log(f"odd {2 * number + 1}")
        print("without an end", end="")  # noqa: T201

    def do_call(self):
        """Start programs, and say so."""
        for number in range(5):
            self.log(f"before {number}")
            subprocess.run(["echo", f"program {number}"], check=True)

    def do_roll_back(self):
        try:
            with transaction.atomic():
                self.log("within")
                self.note("within")
                raise ValueError
        except ValueError:
            self.log("after")

    def do_lock(self):
        """Say much while a transaction of ours holds the process's row."""
        with transaction.atomic():
            type(self).objects.select_for_update().get(pk=self.pk)
            for number in range(5_000):
                self.log(f"{number} {'x' * 100}")
            self.progress(1, 2, "locked")
        self.log("after")

    def do_count(self, lines, text="line"):
        for number in range(lines):
            self.log(f"{text} {number}")

    def do_flood(self, lines):
        """Say much, and go on."""
        for number in range(lines):
            self.log(f"flood {number}")
        self.log("Waiting.")
        time.sleep(1000)

    def do_tick(self, lines, seconds):
        for number in range(lines):
            self.log(f"tick {number}")
            time.sleep(seconds)

    def do_crowd(self, threads, lines):
        """Say much from so many threads here, and from so many elsewhere each."""
        here, *elsewhere = threads
        code = "import django; django.setup()\n"
        code += "from tests.processes.models import crowd; crowd(*__import__('sys')"
        code += ".argv[1:])"
        place = [str(self.pk), self._state.db]
        started = [
            subprocess.Popen(
                [sys.executable, "-c", code, *place, str(count), str(lines)]
            )
            for count in elsewhere
        ]
        crowd(*place, here, lines)
        assert [each.wait() for each in started] == [0] * len(elsewhere)

    def do_progress(self, total):
        for _ in self.track(range(total), desc="counting"):
            pass

    def do_wait(self):
        """Wait to be ended, and say so."""
        self.log("Waiting.")
        try:
            time.sleep(1000)
        finally:
            self.log("Cleaning up.")

    def do_linger(self):
        """Go on until somebody says so."""
        self.log("Lingering.")
        while not self.logs.filter(message="go on").exists():
            time.sleep(0.05)

    def do_stay(self):
        """Ignore SIGTERM, and so does a family of which one has left its group."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen(["sleep", "987"], preexec_fn=_ignore)
        # Twice forked, in a session of its own.
        code = "import os, time, signal; signal.signal(15, signal.SIG_IGN)\n"
        code += "os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0)\n"
        code += "print('far', os.getpid(), flush=True); time.sleep(987)"
        subprocess.Popen([sys.executable, "-c", code])
        self.log(f"near {child.pid}")
        while True:
            time.sleep(1)

    def do_look(self, paths, address):
        """Say who it is and what it can do where it runs."""
        found = {
            "uid": os.getuid(),
            "groups": os.getgroups(),
            "pid": os.getpid(),
            "names": sorted(os.environ),
            "capabilities": _line_of("/proc/self/status", "CapEff"),
            "no_new_privileges": _line_of("/proc/self/status", "NoNewPrivs"),
            "read": [path for path in paths if _opens(path, "r")],
            "written": [path for path in paths if _opens(path, "r+")],
            "added": [path for path in paths if _opens(f"{path}/new", "w")],
            "is_temporary": _opens("/tmp/new", "w"),
            "interfaces": [name for _n, name in socket.if_nameindex()],
            "connects": _connects(address),
        }
        self.log(json.dumps(found))

    def do_orphan(self):
        """Leave somebody behind who ends, for whoever sees to orphans."""
        subprocess.run(["sh", "-c", "true & exit 0"], check=True)
        self.log("Left.")

    def do_forge(self, path):
        """Say what nobody but the supervision may say, and nonsense."""
        talking = socket.socket(socket.AF_UNIX)
        talking.connect(path)
        now = time.time()
        nonsense = [
            [now, "info", "system", "forged"],
            [float("nan"), "info", "log", "never"],
            [now, "x" * 10_000, "log", "loud"],
            [now, "info", "log"],
            {"capture": "stdout"},
            {"progress": {"current": "much", "total": 3, "message": 7, "x": [1]}},
        ]
        for item in nonsense:
            talking.sendall(json.dumps(item).encode() + b"\n")
        talking.sendall(b"[" * 100_000 + b"\n")
        self.log("said")
        self.progress(1, 3, "real")

    def do_query(self):
        self.refresh_from_db()

    def do_swallow(self):
        """Come to an end that looks well, after it was told to stop."""
        try:
            time.sleep(1000)
        except SystemExit:
            return "well"

    def do_hoard(self):
        """Take more memory than there is for it."""
        self.log("Hoarding.")
        return len(bytearray(1 << 30))

    def do_open_many(self):
        """Open more files than it may."""
        files = []
        while True:
            files.append(open(os.devnull))  # noqa: SIM115

    def do_say_what_it_holds(self):
        held = [each.connection for each in connections.all(initialized_only=True)]
        self.note(f"{sum(each is not None for each in held)} connections")

    def do_be_nice(self):
        self.note(f"{os.nice(0)} {os.getpriority(os.PRIO_PROCESS, os.getppid())}")

    def do_compute(self):
        """Compute until somebody ends it."""
        while True:
            pass

    def do_compute_in_c(self):
        """Compute in one call that hears nobody."""
        sum(range(1 << 60))

    def do_second_time(self):
        if self.attempts == 1:
            raise ValueError("once")

    def do_die_once(self):
        if self.attempts == 1:
            os.kill(os.getpid(), signal.SIGKILL)


class Stubborn(Report):
    """A report of which there may be two attempts: a proxy."""

    max_attempts = 2

    class Meta:
        proxy = True


class ReportLog(BaseProcessLog):
    process = models.ForeignKey(Report, models.CASCADE, related_name="logs")


class Yearly(Report):
    """A report in two tables."""

    year = models.IntegerField(default=2026)


class Export(BaseProcess):
    """Has a key of another kind, and a log with columns of its own."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)

    def run(self):
        self.log("exported")


class ExportLog(BaseProcessLog):
    process = models.ForeignKey(Export, models.CASCADE, related_name="logs")
    note = models.CharField(max_length=10, default="own")

    class Meta:
        verbose_name = "line"


class Bookmark(models.Model):
    """What keeps a line from being deleted."""

    line = models.ForeignKey(ExportLog, models.PROTECT)

    def __str__(self):
        return f"of {self.line}"


class Silent(BaseProcess):
    """Has no log."""

    def run(self):
        pass


def _ignore():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _line_of(path, name):
    with open(path) as file:
        found = [line.split()[1] for line in file if line.startswith(f"{name}:")]
    return found[0] if found else None


def _opens(path, mode):
    try:
        with open(path, mode):
            return True
    except OSError:
        return False


def _connects(address):
    try:
        socket.create_connection(address, timeout=2).close()
    except OSError:
        return False
    return True


def crowd(pk, database, threads, lines):
    """Say lines of a report from many threads."""
    report = Report.objects.using(database).get(pk=pk)

    def say(thread):
        for number in range(int(lines)):
            report.log(f"{os.getpid()} {thread} {number}")

    saying = [threading.Thread(target=say, args=(n,)) for n in range(int(threads))]
    for each in saying:
        each.start()
    for each in saying:
        each.join()
