"""
The programs that make sandboxes: how each of them is called, and whether it is there.

They agree on what a bundle is, on ``run``, ``kill`` and ``delete``, and on little else.
Every call names the same state root, or a kill would look for the sandbox elsewhere.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from windlass.exceptions import ConfigurationError
from windlass.processes.conf import SETTING, ProcessOptions

KINDS = ("runsc", "crun", "runc")
# Seconds for what answers at once.
PATIENCE = 20.0
INSTALL = (
    "On Debian and Ubuntu: apt install runsc (gVisor), crun or runc; or set "
    f'{SETTING}["SANDBOX_RUNTIME"] to the path of one of them.'
)


class NoRuntime(ConfigurationError):
    """There is no program that makes sandboxes, or it does not work."""


@dataclass(frozen=True)
class Runtime:
    """A program of one of the kinds, and what each call of it begins with."""

    program: str
    kind: str
    arguments: tuple[str, ...]

    def call(self, state: Path, *words: str) -> list[str]:
        """The command line of a call."""
        return [self.program, *self.arguments, "--root", str(state), *words]

    def tell(self, state: Path, *words: str) -> bool:
        """Call it, and wait; whether it went well."""
        try:
            done = subprocess.run(
                self.call(state, *words),
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=PATIENCE,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0


def environment() -> dict[str, str]:
    """What the runtime is told of ours. It needs no secrets, so it has none."""
    kept = ("PATH", "XDG_RUNTIME_DIR")
    return {name: os.environ[name] for name in kept if name in os.environ}


def find(options: ProcessOptions) -> Runtime:
    """The runtime that the settings name; NoRuntime says what is wrong with it."""
    program = shutil.which(options.sandbox_runtime)
    if program is None:
        raise NoRuntime(
            f'{SETTING}["SANDBOX_RUNTIME"]: there is no program '
            f"{options.sandbox_runtime!r}, so no sandbox can be started."
        )
    kind = _kind(program)
    return Runtime(
        program, kind, (*_arguments(kind, options), *options.sandbox_arguments)
    )


def _kind(program: str) -> str:
    try:
        done = subprocess.run(
            [program, "--version"],
            env=environment(),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoRuntime(f"{program} does not start: {error}.") from error
    kind = (done.stdout.split() or [""])[0]
    if done.returncode or kind not in KINDS:
        said = (done.stderr or done.stdout).strip()[:200]
        raise NoRuntime(
            f"{program} --version exited with status {done.returncode} and said "
            f"{said!r}, so it is none of {', '.join(KINDS)}."
        )
    return kind


def _arguments(kind: str, options: ProcessOptions) -> tuple[str, ...]:
    # A sandbox stays in the control group of its worker. So the limits of the worker's
    # unit or container hold for it too, and it needs no rights to make groups.
    if kind == "crun":
        return ("--cgroup-manager=disabled",)
    if kind == "runc":
        return ()
    network = f"--network={options.sandbox_network}"
    rootless = () if is_root() else ("--rootless",)
    # It opens one socket of the host's: the one that takes the run's lines.
    return ("--ignore-cgroups", "--host-uds=open", network, *rootless)


def is_root() -> bool:
    """Whether runtimes may do all they can."""
    return os.geteuid() == 0
