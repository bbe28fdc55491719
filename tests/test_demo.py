"""
The demo, as a user starts it: its own processes, its own SQLite file, real input.

These tests are about the demo project, not about a database, so they run once:
with the suite on SQLite.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

MANAGE = Path(__file__).resolve().parent.parent / "examples" / "demo" / "manage.py"

pytestmark = [
    pytest.mark.skipif(
        os.environ.get("WINDLASS_TEST_DATABASE", "sqlite") != "sqlite",
        reason="the demo runs on its own SQLite file, once is enough",
    ),
    pytest.mark.timeout(300),
]


@contextmanager
def manage(tmp_path, *arguments):
    """Run a command of the demo project in a directory of its own."""
    other = ("DJANGO_SETTINGS_MODULE", "DEMO_DATABASE_URL")
    env = {name: value for name, value in os.environ.items() if name not in other}
    process = subprocess.Popen(
        [sys.executable, MANAGE, *arguments],
        env={**env, "DEMO_DIR": str(tmp_path / "demo"), "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.terminate()


def read_until(stream, pattern):
    """Read lines up to the first with the pattern in it; return all of them."""
    read = ""
    for line in stream:
        read += line
        if re.search(pattern, line):
            return read
    pytest.fail(f"{pattern!r} never came, only:\n{read}")


def test_the_demo_measures_the_standard_library_and_ends_by_itself(tmp_path):
    with manage(tmp_path, "demo") as process:
        output, _ = process.communicate()

    assert process.returncode == 0, output
    enqueued = int(re.search(r"Enqueued (\d+) jobs", output)[1])
    assert enqueued > 400
    assert re.search(rf"succeeded +{enqueued}\b", output)
    assert re.search(r"failed +1\b", output)
    assert "0 started early" in output
    assert "stopped with exit code 0" in output
    assert "Traceback (most recent call last)" in output
    assert "make demo-serve" in output


def test_the_demo_refuses_to_share_its_directory(tmp_path):
    with manage(tmp_path, "demo") as first:
        read_until(first.stdout, "Enqueued")
        with manage(tmp_path, "demo") as second:
            output, _ = second.communicate()

    assert second.returncode == 1
    assert "Another demo is running" in output


def test_demo_serve_serves_the_admin_and_stops_on_sigterm(tmp_path):
    # Port 0 would be any free one, but the address has to be known to be printed.
    with manage(tmp_path, "demo_serve", "--port", str(free_port())) as process:
        printed = read_until(process.stdout, "Stop both with Ctrl-C")
        address = re.search(r"http://\S+/admin/", printed)[0]
        with urllib.request.urlopen(address, timeout=10) as response:
            page = response.read().decode()
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate()

    assert "csrfmiddlewaretoken" in page
    assert process.returncode == 0, rest
    assert "Stopped the web server and the runtime." in rest


def free_port():
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
