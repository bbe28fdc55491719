"""Processes in sandboxes of real runtimes: gVisor's runsc, and crun."""

import json
import os
import shutil
import stat
import subprocess
from datetime import timedelta

import pytest

from tests.integration.runtime import family, is_running, kill, once_in_all, workers
from tests.processes.models import Report, Yearly
from tests.waiting import eventually
from windlass.processes.moves import RUNNING

OPTIONS = {**workers(threads=4), "stop_grace": 0.5, "shutdown_timeout": 5}
pytestmark = once_in_all

# crun refuses hosts that have control groups of both versions with something in the
# second. Where that is so it does not get to see them.
BLINDFOLD = """#!/bin/sh
exec unshare --mount --propagation private \\
    sh -c 'umount /sys/fs/cgroup/unified; exec crun "$@"' crun "$@"
"""


@pytest.fixture(params=["runsc", "crun"])
def program(request, tmp_path):
    """The path of a runtime."""
    found = shutil.which(request.param)
    if found is None or os.geteuid() != 0:
        what = f"{request.param} and root, who may make sandboxes of both kinds"
        if os.environ.get("CI") == "true":
            pytest.fail(f"There is no {what}.")
        pytest.skip(f"There is no {what}.")
    if request.param == "crun" and os.path.exists("/sys/fs/cgroup/unified"):
        found = tmp_path / "crun"
        found.write_text(BLINDFOLD)
        found.chmod(0o755)
    return str(found)


@pytest.fixture(autouse=True)
def nobody_left(committed):
    Report.objects.all().delete()
    yield
    Report.objects.all().delete()


@pytest.fixture
def root(tmp_path):
    """Where sandboxes are kept."""
    return tmp_path / "sandboxes"


@pytest.fixture
def runtime(start, program, root):
    def begin(**processes):
        said = {
            "EXECUTOR": "sandbox",
            "SANDBOX_RUNTIME": program,
            "SANDBOX_STATE_ROOT": str(root),
            **processes,
        }
        more = {"WINDLASS_TEST_PROCESSES": json.dumps(said)}
        return start(options=OPTIONS, **more)

    return begin


def ran(process, timeout=60):
    assert process.wait(timeout), said(process)
    return process


def said(process, **which):
    lines = process.logs.filter(**which).order_by("sequence")
    return [line.message for line in lines]


def says(process, text):
    return eventually(lambda: [s for s in said(process) if text in s])


def left(root):
    """What is left in the directory for sandboxes."""
    return [path for part in ("state", "bundles") for path in (root / part).iterdir()]


def test_all_it_says_is_in_its_log_in_order(runtime, root):
    runtime()
    report = Report.objects.create(kind="say")
    report.start()

    ran(report)
    assert report.status == "succeeded", (report.error, said(report))
    found = {(line.stream, line.level, line.message) for line in report.logs.all()}
    assert found >= {
        ("log", "debug", "said"),
        ("logging", "warning", "recorded 1"),
        ("stdout", "info", "printed"),
        ("stderr", "warning", "on the other"),
        ("stdout", "info", "by a program"),
    }
    lines = [line.message for line in report.logs.order_by("sequence")]
    lines.remove("by a program")
    assert (lines[0], lines[-2:]) == ("Started.", ["without an end", "Finished."])
    counted = [text.split() for text in lines if text[:4] in ("even", "odd ")]
    assert [int(number) for _what, number in counted] == list(range(40))
    assert left(root) == []
