"""
Imported before any fork, so that it holds in each process of the runtime.

After SIGUSR1 a main thread stands still, the next time it waits, until the file in
the environment is there. Not in the handler itself: that may run while the thread
holds a lock that the heartbeat needs. And a job is overdue soon after its timeout.
"""

import os
import signal
import threading
import time
from pathlib import Path

from windlass.runtime import evidence
from windlass.runtime.flag import Flag

GATE = "WINDLASS_TEST_GATE"

told = []
wait = Flag.wait


def stand_still_if_told(self, timeout):
    gate = Path(os.environ[GATE])
    if threading.current_thread() is threading.main_thread():
        while told and not gate.exists():
            time.sleep(0.01)
    return wait(self, timeout)


signal.signal(signal.SIGUSR1, lambda number, _frame: told.append(number))
Flag.wait = stand_still_if_told
evidence.GRACE = 0.1
