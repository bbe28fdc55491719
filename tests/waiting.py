"""
Waiting for what other processes do: until it is so, and never longer.

A test that sleeps is either slow or wrong. ``eventually`` is the only way in which
tests wait.
"""

import time

LOOK_EVERY = 0.02


def eventually(condition, *, timeout=60.0, message=None):
    """Call a function until it gives something true, and give that back."""
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() >= deadline:
            said = (message() if callable(message) else message) or ""
            raise AssertionError(f"still {found!r} after {timeout:g} s\n{said}")
        time.sleep(LOOK_EVERY)


def never(condition, *, during):
    """Check again and again that something does not become true for some seconds."""
    deadline = time.monotonic() + during
    while time.monotonic() < deadline:
        found = condition()
        assert not found, f"It became {found!r}"
        time.sleep(LOOK_EVERY)
