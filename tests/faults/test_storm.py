"""The short form of a storm; the long one is a command, see ``__main__``."""

import os
import subprocess
import sys

import pytest

from tests.integration.runtime import ROOT
from tests.settings import ENGINE, SUFFIX


@pytest.mark.timeout(110)
@pytest.mark.parametrize("seed", [1])
def test_every_promise_is_kept_in_a_storm(seed):
    options = ["--database", ENGINE, "--seed", str(seed), "--seconds", "10"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", *options, "--jobs", "200"],
        cwd=ROOT,
        # Where no private server can be made it is the suite's, but never its database.
        env={**os.environ, "WINDLASS_TEST_DB_SUFFIX": f"{SUFFIX}_storm"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    print(done.stdout)
    assert done.returncode == 0, done.stdout
