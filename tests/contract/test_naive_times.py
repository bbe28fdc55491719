"""The contract of claims and moves again, where USE_TZ is off."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

HERE = Path(__file__).parent
AGAIN = ["test_insert.py", "test_claim.py", "test_finish.py", "test_put_back.py"]


@pytest.mark.skipif(not settings.USE_TZ, reason="this is the run without time zones")
def test_the_contract_holds_without_time_zones():
    suffix = os.environ.get("WINDLASS_TEST_DB_SUFFIX", "") + "_naive"
    own = "own-users or own-owned"
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-k", f"({own}) and not unusual and not megabyte and not 500"),
            *(str(HERE / name) for name in AGAIN),
        ],
        cwd=HERE.parent.parent,
        env={
            **os.environ,
            "WINDLASS_TEST_USE_TZ": "0",
            "WINDLASS_TEST_DB_SUFFIX": suffix,
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-2000:]
