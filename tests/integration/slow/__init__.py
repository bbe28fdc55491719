"""Apps that are slow to start or to end: they stand still until they are let go."""

import os

from django.apps import AppConfig

# The file that says they are there, and the pipe at which they wait for a writer.
VARIABLE = "WINDLASS_TEST_SLOW"


class SlowStart(AppConfig):
    """Its ``tasks`` module waits when it is imported."""

    name = "tests.integration.slow"
    label = "slow"


def stand_still(os=os, variable=VARIABLE):
    """Say so, and wait; also when the interpreter has taken the globals away."""
    here, pipe = os.environ[variable].split(":")
    os.close(os.open(here, os.O_CREAT | os.O_WRONLY))
    os.close(os.open(pipe, os.O_RDONLY))
