"""Hooks of every kind; those of stops fail on purpose after they noted."""

import os
import sys

from windlass import hooks


def _note(text):
    with open(os.environ["WINDLASS_TEST_HOOKED"], "a") as file:
        file.write(f"{text} {os.getpid()} {os.getppid()}\n")


def _register(kind, event):
    @hooks.register_hook(f"{kind}.{event}")
    def hook(part):
        _note(f"{part.kind}.{event}")
        if event == "stop":
            sys.exit(9)


def note_error(error):
    """Be told of an error of the runtime."""
    _note(f"error:{type(error).__name__}")


for _kind in hooks.KINDS:
    for _event in hooks.EVENTS:
        _register(_kind, _event)
