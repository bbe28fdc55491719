"""
Starting a sandbox, waiting for it, and ending as it has ended.

This is done by the process that the worker has made for the run. The runtime is in a
group of its own: SIGTERM reaches this process alone, which has the runtime pass it on
to whoever is inside, once. When this process is killed, all of the sandbox comes to
the fork server and dies there, and the worker removes what is left in files.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from windlass.processes import conf, interpreter
from windlass.processes.conf import ProcessOptions
from windlass.processes.lines import clean
from windlass.processes.link import ENV
from windlass.processes.sandbox import bundles, layout, runtimes
from windlass.processes.sandbox.bundles import Bundle
from windlass.processes.sandbox.inside import BEGUN
from windlass.processes.sandbox.instance import pack
from windlass.processes.sandbox.runtimes import Runtime
from windlass.processes.sandbox.talking import Talk
from windlass.runtime.child import die_with_parent

if TYPE_CHECKING:
    from windlass.processes.models import BaseProcess

# What killed the run, in its exit status, is above this.
KILLED = 128


class SandboxFailed(Exception):
    """The sandbox did not come as far as to run anything."""


def run(process: BaseProcess, name: str) -> None:
    """
    Run a process in a sandbox of that name.

    RunFailed if its ``run()`` raises, SandboxFailed if there was no sandbox, with what
    the runtime says. All of the sandbox is gone when it comes back.
    """
    options = conf.options()
    bundles.sweep(options)
    runtime = runtimes.find(options)
    bundle = Bundle.of(options, name)
    talk = None
    try:
        # Whoever is nobody inside may speak there; it is in a directory of ours alone.
        log = Path(json.loads(os.environ[ENV])["path"])
        sockets = {layout.LOG: log, layout.TALK: bundle.path / "talk"}
        _make(bundle, runtime, options, sockets)
        log.chmod(0o666)
        talk = Talk(sockets[layout.TALK], _said_to(process, options))
        started = _start(bundle, runtime)
        kill = ("kill", name, "TERM")
        code, was_told = talk.wait(started, lambda: runtime.tell(bundle.state, *kill))
        begun, _, said = bytes(talk.answer).partition(b"\n")
        if begun != BEGUN.encode() and not was_told:
            raise SandboxFailed(_why(bundle, runtime, code))
    finally:
        if talk is not None:
            talk.close()
        bundle.remove()
    interpreter.end_as(KILLED - code if code > KILLED else code, _believed(said))


def probe(options: ProcessOptions) -> None:
    """Start Python in a sandbox, and nothing more; raises what keeps it from that."""
    runtime = runtimes.find(options)
    bundle = Bundle.of(options, f"wl-try-{uuid.uuid4().hex}")
    try:
        _make(bundle, runtime, options, {}, "-c", "")
        code = subprocess.run(
            _command(bundle, runtime),
            env=runtimes.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=runtimes.PATIENCE,
        ).returncode
        if code:
            raise SandboxFailed(_why(bundle, runtime, code))
    finally:
        bundle.remove()


def _said_to(process: BaseProcess, options: ProcessOptions) -> bytes:
    said = {
        **pack(process),
        "log": {**json.loads(os.environ[ENV]), "path": layout.LOG},
        "network": options.sandbox_network,
    }
    return json.dumps(said).encode() + b"\n"


def _make(
    bundle: Bundle,
    runtime: Runtime,
    options: ProcessOptions,
    sockets: dict[str, Path],
    *arguments: str,
) -> None:
    bundle.make(runtime)
    seen = layout.layout(options)
    bundle.furnish(seen, list(sockets))
    arguments = arguments or ("-P", "-m", "windlass.processes.sandbox.inside")
    said = layout.config(options, runtime.kind, seen, sockets)
    said["process"]["args"] = [sys.executable, *arguments]
    bundle.write("config.json", said)


def _command(bundle: Bundle, runtime: Runtime) -> list[str]:
    words = ("run", "--bundle", str(bundle.path), bundle.name)
    return runtime.call(bundle.state, "--log", str(bundle.log), *words)


def _start(bundle: Bundle, runtime: Runtime) -> subprocess.Popen[bytes]:
    for number in (1, 2):
        # gVisor has its own idea of where the end of a file is.
        with suppress(OSError):
            flags = fcntl.fcntl(number, fcntl.F_GETFL)
            fcntl.fcntl(number, fcntl.F_SETFL, flags | os.O_APPEND)
    parent = os.getpid()
    return subprocess.Popen(
        _command(bundle, runtime),
        env=runtimes.environment(),
        stdin=subprocess.DEVNULL,
        process_group=0,
        preexec_fn=lambda: die_with_parent(parent, signal.SIGKILL),
    )


def _believed(said: bytes) -> str:
    """What was answered, if it is an answer. Anybody inside may have written it."""
    try:
        given = json.loads(said)
        found = {"text": given["text"], "traceback": given["traceback"]}
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return json.dumps({name: _clean(text) for name, text in found.items()})


def _clean(text: object) -> str:
    return "\n".join(clean(each) for each in str(text).split("\n"))


def _why(bundle: Bundle, runtime: Runtime, code: int) -> str:
    said = ""
    with suppress(OSError):
        lines = bundle.log.read_text(errors="replace").strip().splitlines()
        said = f", and said: {lines[-1][-500:]}" if lines else ""
    return (
        f"No sandbox was started: {runtime.program} run exited with status {code}{said}"
    )
