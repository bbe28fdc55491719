"""
Imported before any fork, so that it holds in each process of the runtime.

SIGUSR1 stops a main thread until the file in the environment is there, and a job is
overdue at once after its timeout.
"""

import os
import signal
import time
from pathlib import Path

from windlass.runtime import evidence

GATE = "WINDLASS_TEST_GATE"


def stand_still(_number, _frame):
    gate = Path(os.environ[GATE])
    while not gate.exists():
        time.sleep(0.01)


signal.signal(signal.SIGUSR1, stand_still)
evidence.GRACE = 0.1
