"""The short form of the kill cycles; the long one is a command, see the module."""

import pytest

from tests.faults.kill_cycles import Cycles


@pytest.mark.timeout(110)
@pytest.mark.parametrize("seed", [1])
def test_every_promise_is_kept_while_processes_are_killed(
    committed, journal, tmp_path, seed
):
    cycles = Cycles(tmp_path, 1000, cycles=10, seed=seed, longest=0.1, pause=(0.1, 0.6))
    cycles.run()

    print(cycles.summary())
    for runtime in cycles.fleet.runtimes:
        print(f"--- {runtime.output.name}\n{runtime.said()[-5000:]}")
    assert cycles.verdict() == []
    assert len(cycles.kills) >= 5
