"""A worker of Celery runs a process in a sandbox of gVisor, as Windlass's own does."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.contrib.fleet import CI, Celery
from tests.contrib.fleet import fleet as make_fleet
from tests.integration.runtime import once_in_all
from tests.processes.models import Report
from tests.processes.test_runtime import ran, said, says
from tests.waiting import eventually

pytestmark = once_in_all


@pytest.fixture
def root():
    """Where sandboxes are kept. The path is short, for a socket's is."""
    with tempfile.TemporaryDirectory(prefix="wl-") as directory:
        yield Path(directory) / "sandboxes"


@pytest.fixture
def fleet(root, committed, tmp_path, settings):
    if shutil.which("runsc") is None or os.geteuid() != 0:
        (pytest.fail if CI else pytest.skip)("There is no runsc, or no root.")
    own = {"EXECUTOR": "sandbox", "SANDBOX_STATE_ROOT": str(root)}
    with make_fleet("redis", tmp_path, **own) as found:
        app = Celery("tests.contrib", set_as_current=True)
        app.conf.update(found.celery)
        settings.WINDLASS_PROCESSES = found.processes
        yield found
        app.close()
        Report.objects.all().delete()


def test_the_same_process_runs_there_and_is_ended_there(fleet, root):
    told, ended = (Report.objects.create(kind=kind) for kind in ("say", "wait"))
    for each in (told, ended):
        each.start()

    assert ran(told).status == "succeeded", told.error
    says(ended, "Waiting.")
    ended.refresh_from_db()
    name = ended.sandbox_id
    ended.cancel()
    assert ran(ended).status == "cancelled"

    assert name.startswith("wl-")
    assert {"said", "printed", "by a program"} <= {*said(told)}
    assert "Cleaning up." in said(ended)
    assert (told.sandbox_id, ended.sandbox_id) == ("", "")
    eventually(lambda: not [*(root / "bundles").iterdir()])
