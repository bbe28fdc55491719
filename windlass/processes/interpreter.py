"""
The executor ``spawn``: ``run()`` in an interpreter that nobody has touched before.

The process that the worker made starts it, waits, and says how it ended. Both are in
one group, so what is meant for the run reaches the interpreter. What it raised comes
back by a pipe, as text.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from windlass.processes.models import BaseProcess

# The exit status of an interpreter whose run() raised, and has said what.
RAISED = 70


class RunFailed(Exception):
    """What ``run()`` raised in another interpreter."""


def run(process: BaseProcess) -> None:
    """Run a process in a new interpreter; RunFailed if its ``run()`` raises."""
    place = (process._meta.label, str(process.pk), process._windlass_database())
    ours, theirs = os.pipe()
    # A handler, and not SIG_IGN, which the interpreter would inherit: the run is told,
    # and this process is here until it has ended.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with open(ours, "rb") as answer:
        started = subprocess.Popen(
            [sys.executable, "-m", __name__, *place, str(theirs)],
            pass_fds=[theirs],
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        os.close(theirs)
        said = answer.read()
    end_as(started.wait(), said)


def end_as(code: int, said: bytes | str) -> None:
    """End as ``run()`` has elsewhere: RunFailed, or the death of this process."""
    if code == RAISED and said:
        error = json.loads(said)
        failed = RunFailed(str(error["text"]))
        failed.add_note(str(error["traceback"]))
        raise failed
    if code:
        _end_like(code)


def _end_like(code: int) -> None:
    """End this process as the interpreter has ended, for the worker to see."""
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    os._exit(code if code > 0 else 1)


def main(label: str, pk: str, database: str, answer: str) -> int:
    """Run one process in this interpreter; give back its exit status."""
    import django

    django.setup()
    from django.db import connections

    from windlass.processes.tasks import load

    signal.signal(signal.SIGTERM, leave)
    process = load(label, pk, database)
    assert process is not None, "its launcher has just read it"
    connections.close_all()
    try:
        perform(process)
    except BaseException as error:  # noqa: BLE001 - it is told, and raised elsewhere
        with open(int(answer), "w") as file:
            json.dump(told_of(error), file)
        return RAISED
    return 0


def perform(process: BaseProcess) -> None:
    """Run a process in an interpreter of its own; raises what its ``run()`` does."""
    from windlass.processes import capture, conf, limiting, sinks
    from windlass.processes.link import ENV, Link

    given = json.loads(os.environ[ENV])
    link = Link(given["path"], given["name"])
    sinks.own(process, link)
    capture.hear_everything(link, output=False)
    if conf.options().capture_output:
        capture.hear_prints(link)
    try:
        with limiting.within(conf.options()):
            process.run()
    finally:
        capture.flush_output()


def told_of(error: BaseException) -> dict[str, str]:
    """What is said elsewhere of what was raised here."""
    from windlass.processes import execution

    return {
        "text": execution.said_by(error),
        "traceback": "".join(traceback.format_exception(error)),
    }


def leave(number: int, _frame: Any) -> None:
    """A handler: raise SystemExit, so that ``finally`` blocks get to run."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
