"""
Start other commands of this project, and stop them the way a server is stopped.

Each runs in a session of its own: Ctrl-C in the terminal reaches only the
program in front, which then passes on exactly one SIGTERM. To the runtime a
second signal would mean "now, whatever is in hand".
"""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

from django.conf import settings

STOP_SECONDS = 40


@contextmanager
def manage(*arguments, stdout=None, **environment):
    """Run `manage.py ARGUMENTS` as long as the block, then stop it."""
    process = subprocess.Popen(
        [sys.executable, str(settings.BASE_DIR / "manage.py"), *arguments],
        env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.STDOUT if stdout else None,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        stop(process)


def stop(process):
    """Send SIGTERM and wait for the exit code; kill what does not listen."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            kill(process)
        except KeyboardInterrupt:
            # A second Ctrl-C: the person does not want to wait for the polite way.
            kill(process)
            raise
    return process.returncode


def kill(process):
    """Kill a program and all that it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def ended_within(process, seconds):
    """Wait up to some seconds and say whether the process has ended."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def treat_sigterm_as_ctrl_c():
    """Let SIGTERM unwind this program too, so that what it started is stopped."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
