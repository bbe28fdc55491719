"""The example of processes, as its README says: eagerly, and with a worker."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.runtime import is_running
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "processes"

pytestmark = pytest.mark.skipif(
    os.environ.get("WINDLASS_TEST_DATABASE", "sqlite") != "sqlite",
    reason="the example runs on its own SQLite file, once is enough",
)


@pytest.fixture
def files(tmp_path):
    directory = tmp_path / "files"
    directory.mkdir()
    for number in range(3):
        (directory / f"{number}.txt").write_text(f"file {number}")
    return directory


@pytest.fixture
def manage(tmp_path):
    env = {**os.environ, "STUDIO_DATABASE": str(tmp_path / "studio.sqlite3")}
    env |= {"PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "studio.settings"}
    started = []

    def manage(*arguments, begin=False, **more):
        command = [sys.executable, EXAMPLE / "manage.py", *arguments]
        options = {"env": {**env, **more}, "text": True, "stdout": subprocess.PIPE}
        options["stderr"] = subprocess.STDOUT
        if not begin:
            return subprocess.run(command, check=False, timeout=60, **options)
        started.append(subprocess.Popen(command, **options))
        return started[-1]

    yield manage
    for process in started:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def test_it_runs_without_a_worker_in_memory(manage, files):
    settings = {"DJANGO_SETTINGS_MODULE": "studio.eager_settings"}

    done = manage("checksums", str(files), **settings)

    assert done.returncode == 0, done.stdout
    assert "3 files below" in done.stdout
    assert done.stdout.splitlines()[-1] == "succeeded: 3 files"


def test_a_worker_runs_it_and_a_console_follows(manage, files):
    assert manage("migrate", "--verbosity", "0").returncode == 0
    worker = manage("windlass", begin=True)

    done = manage("checksums", str(files), "--follow")

    assert done.returncode == 0, done.stdout
    assert [line.split(None, 2)[2] for line in done.stdout.splitlines()[:-1]] == [
        "Started.",
        f"3 files below {files}",
        "3 checksums are stored.",
        "Finished.",
    ]
    assert done.stdout.splitlines()[-1] == "succeeded: 3 files"
    worker.send_signal(signal.SIGTERM)
    eventually(lambda: not is_running(worker.pid) or worker.poll() is not None)
    assert worker.wait(60) == 0


def test_what_is_no_directory_is_refused(manage):
    settings = {"DJANGO_SETTINGS_MODULE": "studio.eager_settings"}

    done = manage("checksums", "/nothing/there", **settings)

    assert done.returncode
    assert "There is no such directory." in done.stdout


def test_its_migrations_are_whole(manage):
    done = manage("makemigrations", "--check", "--dry-run")

    assert done.returncode == 0, done.stdout
