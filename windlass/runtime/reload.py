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
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.apps import apps
from django.utils.autoreload import get_child_arguments, iter_all_python_module_files

from windlass.runtime.child import ASKED
from windlass.runtime.flag import Flag

EVERY = 1.0
# Tells a runtime whose child it is.
RELOADED_BY = "WINDLASS_RELOADED_BY"


def run_with_reload(say: Callable[[str], Any]) -> int:
    """Run this very command as a child and restart it on change, until it is ended."""
    return Reloader(say).run()


class Reloader:
    """Keeps the runtime running as a child, and hands on what it is told."""

    def __init__(self, say: Callable[[str], Any]) -> None:
        self.say = say
        self.told: list[int] = []
        self.attention = Flag()

    def run(self) -> int:
        """Start, watch and restart; give back the exit code of the last child."""
        for number in ASKED:
            signal.signal(number, self._note)
        code = 0
        while not self.told:
            seen = snapshot()
            child = subprocess.Popen(
                get_child_arguments(),
                env={**os.environ, RELOADED_BY: str(os.getpid())},
            )
            changed = self._change(seen, child)
            if changed and not self.told:
                self.say(f"{changed} changed, restarting.")
                child.terminate()
                code = self._wait_for(child, asked=1)
            elif self.told:
                code = self._wait_for(child, asked=0)
            else:
                self.say("The runtime ended by itself; a change will start it again.")
                code = child.returncode
                self._change(seen)
        # Told before it had handlers of its own, it ended as any process does.
        return max(0, code)

    def _note(self, number: int, _frame: Any) -> None:
        self.told.append(number)
        self.attention.set()

    def _change(
        self, seen: dict[Path, float], child: subprocess.Popen[bytes] | None = None
    ) -> Path | None:
        while not self.told and (child is None or child.poll() is None):
            self.attention.wait(EVERY)
            changed = _difference(seen)
            if changed is not None:
                return changed
        return None

    def _wait_for(self, child: subprocess.Popen[bytes], *, asked: int) -> int:
        # In a terminal, Ctrl-C reaches the child as well as this process; the
        # supervisor takes two signals at once for one.
        while child.poll() is None:
            while asked < len(self.told):
                child.send_signal(self.told[asked])
                asked += 1
            self.attention.clear()
            if asked >= len(self.told):
                self.attention.wait(0.05)
        return child.returncode


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
