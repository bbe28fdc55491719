"""
Starting a sandbox, waiting for it, and ending as it has ended.

This is done by the process that the worker has made for the run. The runtime is in a
group of its own: SIGTERM reaches this process alone, which has the runtime pass it on
to whoever is inside, once. When this process is killed, all of the sandbox comes to
the fork server and dies there, and the worker removes what is left in files.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import uuid
from contextlib import contextmanager, suppress
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
from windlass.runtime.child import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from windlass.processes.models import BaseProcess

# Bytes of what comes out that are read.
MOST = 1 << 20
# Seconds until a sandbox that did not take a signal, being made, is sent it again.
AGAIN = 0.3
DEAD = 128


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
    try:
        with _told() as (told, wake):
            answer = _make(bundle, process, options, runtime)
            try:
                code = _wait(_start(bundle, runtime), bundle, runtime, told, wake)
                begun, _, said = os.read(answer, MOST).partition(b"\n")
            finally:
                os.close(answer)
        if begun != BEGUN.encode() and not told:
            raise SandboxFailed(_why(bundle, runtime, code))
    finally:
        bundle.remove()
    interpreter.end_as(DEAD - code if code > DEAD else code, _believed(said))


def probe(options: ProcessOptions) -> None:
    """Start Python in a sandbox, and nothing more; raises what keeps it from that."""
    runtime = runtimes.find(options)
    bundle = Bundle.of(options, f"wl-try-{uuid.uuid4().hex}")
    try:
        bundle.make(runtime)
        seen = layout.layout(options)
        bundle.furnish(seen, [])
        config = layout.config(options, runtime.kind, seen, {})
        config["process"]["args"] = [sys.executable, "-c", ""]
        bundle.write("config.json", config)
        code = subprocess.run(
            _command(bundle, runtime),
            env=runtimes.environment(),
            capture_output=True,
            timeout=runtimes.PATIENCE,
        ).returncode
        if code:
            raise SandboxFailed(_why(bundle, runtime, code))
    finally:
        bundle.remove()


def _command(bundle: Bundle, runtime: Runtime) -> list[str]:
    words = ("run", "--bundle", str(bundle.path), bundle.name)
    return runtime.call(bundle.state, "--log", str(bundle.log), *words)


def _make(
    bundle: Bundle, process: BaseProcess, options: ProcessOptions, runtime: Runtime
) -> int:
    """Make the bundle; give back the descriptor of what the inside answers."""
    bundle.make(runtime)
    log = json.loads(os.environ[ENV])
    job = {
        **pack(process),
        "log": {**log, "path": layout.LOG},
        "network": options.sandbox_network,
    }
    places = {
        layout.JOB: bundle.write("job", job, 0o444),
        layout.ANSWER: bundle.path / "answer",
        layout.LOG: Path(log["path"]),
    }
    # Read by this descriptor, whatever is made of the name: nobody leads us elsewhere.
    answer = os.open(places[layout.ANSWER], os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.fchmod(answer, 0o666)
    # Whoever is nobody inside may speak to it, and it is in a directory of ours alone.
    os.chmod(log["path"], 0o666)
    seen = layout.layout(options)
    bundle.furnish(seen, list(places))
    bundle.write("config.json", layout.config(options, runtime.kind, seen, places))
    return answer


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


def _start(bundle: Bundle, runtime: Runtime) -> subprocess.Popen[bytes]:
    _let_append()
    parent = os.getpid()
    return subprocess.Popen(
        _command(bundle, runtime),
        env=runtimes.environment(),
        stdin=subprocess.DEVNULL,
        process_group=0,
        preexec_fn=lambda: die_with_parent(parent, signal.SIGKILL),
    )


def _let_append() -> None:
    """Let gVisor write to files behind what others write; it has its own idea where."""
    import fcntl

    for number in (1, 2):
        with suppress(OSError):
            flags = fcntl.fcntl(number, fcntl.F_GETFL)
            fcntl.fcntl(number, fcntl.F_SETFL, flags | os.O_APPEND)


@contextmanager
def _told() -> Iterator[tuple[list[int], int]]:
    """SIGTERMs that come, and a descriptor that can be read when one has."""
    told: list[int] = []
    wake, poke = os.pipe()
    os.set_blocking(poke, False)
    os.set_blocking(wake, False)
    # Not SIG_IGN, which the sandbox would inherit. And not an exception: this process
    # stays until the sandbox has ended.
    signal.signal(signal.SIGTERM, lambda number, _frame: told.append(number))
    before = signal.set_wakeup_fd(poke, warn_on_full_buffer=False)
    try:
        yield told, wake
    finally:
        signal.set_wakeup_fd(before)
        os.close(wake)
        os.close(poke)


def _wait(
    started: subprocess.Popen[bytes],
    bundle: Bundle,
    runtime: Runtime,
    told: list[int],
    wake: int,
) -> int:
    """Wait for the end, and pass signals on; give back the exit status."""
    passed = 0
    ended = os.pidfd_open(started.pid)
    try:
        while True:
            pause = AGAIN if len(told) > passed else None
            ready, _, _ = select.select([ended, wake], [], [], pause)
            if ended in ready:
                return started.wait()
            with suppress(BlockingIOError):
                os.read(wake, 1024)
            if len(told) > passed:
                count = len(told)
                if runtime.tell(bundle.state, "kill", bundle.name, "TERM"):
                    passed = count
                elif select.select([ended], [], [], AGAIN)[0]:
                    return started.wait()
    finally:
        os.close(ended)


def _why(bundle: Bundle, runtime: Runtime, code: int) -> str:
    said = ""
    with suppress(OSError):
        lines = bundle.log.read_text(errors="replace").strip().splitlines()
        said = lines[-1][-500:] if lines else ""
    return (
        f"No sandbox was started: {runtime.program} run exited with status {code}"
        f"{f', and said: {said}' if said else ''}."
    )
