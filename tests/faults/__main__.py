"""
Storms from the command line: on a private database, with a seed that repeats them.

    python -m tests.faults --database postgresql --seconds 1800 --jobs 2000 --seed 7

Exits with 1 if a promise was broken. The journal, the faults and what the runtimes
said stay in the directory that is named, for a look at what happened.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.alone import own_database, report
from tests.faults.clock import Clock
from tests.faults.places import place


def main(arguments):
    """Make a place, rage there, judge."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description=__doc__.splitlines()[1]
    )
    parser.add_argument(
        "--database", choices=("sqlite", "postgresql", "mysql"), default="postgresql"
    )
    parser.add_argument("--seconds", type=float, default=1800, help="how long it rages")
    parser.add_argument("--jobs", type=int, default=2000, help="unfinished at a time")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = parser.parse_args(arguments)
    directory = Path(tempfile.mkdtemp(prefix="windlass-faults-"))
    print(
        f"seed {given.seed}, {given.database}, {given.seconds:g} s; journal and output "
        f"in {directory}",
        flush=True,
    )
    signal.signal(signal.SIGTERM, stop_clean)
    with place(given.database, directory) as found:
        print(*(f"left out: {what}" for what in found.missing), sep="\n", end="")
        os.environ.update(found.environment)
        with own_database():
            # It needs the settings.
            from tests.faults.storm import Storm

            clock = Clock(directory) if Clock.exists() else None
            storm = Storm(
                directory, found, given.seconds, given.jobs, given.seed, clock=clock
            )
            begun = time.monotonic()
            storm.run()
            print(f"{storm.summary()} in {time.monotonic() - begun:.0f} s", flush=True)
            return report(storm.verdict(), directory)


def stop_clean(number, _frame):
    """Take server, disk and runtimes along, however often one is told to stop."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
