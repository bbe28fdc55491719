"""
Restart the runtime when code changes, for development.

The runtime runs as a child, whole and unchanged, and is asked to stop as an operator
would ask it. Django's own reloader runs the program in a thread, from which nobody
may fork or handle signals.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.apps import apps
from django.utils.autoreload import get_child_arguments, iter_all_python_module_files

EVERY = 1.0


def run_with_reload(say: Callable[[str], Any]) -> int:
    """Run this very command as a child and restart it on change, until it is ended."""
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: told.append(received))
    while True:
        seen = snapshot()
        child = subprocess.Popen(
            get_child_arguments(), env={**os.environ, "WINDLASS_RELOADED": "1"}
        )
        changed = _watch(child, seen, told)
        if told:
            # Ctrl-C reached the child as well; a second signal would force it.
            if told[0] != signal.SIGINT:
                child.send_signal(told[0])
            return child.wait()
        if changed is None:
            say("The runtime ended by itself; waiting for a change to start it again.")
            while (changed := _difference(seen)) is None and not told:
                time.sleep(EVERY)
            if told:
                return child.returncode
        say(f"{changed} changed, restarting.")
        child.terminate()
        child.wait()


def _watch(
    child: subprocess.Popen[bytes], seen: dict[Path, float], told: list[int]
) -> Path | None:
    while not told and child.poll() is None:
        time.sleep(EVERY)
        changed = _difference(seen)
        if changed is not None:
            return changed
    return None


def _difference(seen: dict[Path, float]) -> Path | None:
    now = snapshot()
    for path in now.keys() | seen.keys():
        if now.get(path) != seen.get(path):
            return path
    return None


def snapshot() -> dict[Path, float]:
    """The code of this project and when each file of it changed."""
    files = {Path(file) for file in iter_all_python_module_files()}
    for app in apps.get_app_configs():
        # Installed packages do not change while one works; the project's apps do.
        if "site-packages" not in app.path:
            files |= set(Path(app.path).rglob("*.py"))
    times = {}
    for file in files:
        try:
            times[file] = file.stat().st_mtime
        except OSError:
            continue
    return times
