"""The pid file: written whole, never shared, never mistaken."""

import os
import subprocess
import sys

import pytest

from windlass.exceptions import ConfigurationError
from windlass.runtime import identity
from windlass.runtime.pidfile import Pidfile


@pytest.fixture
def path(tmp_path):
    return tmp_path / "windlass.pid"


@pytest.fixture
def other():
    """A process that runs, which is not this one."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process.pid
    process.communicate()


def test_it_names_this_process_and_goes_with_it(path):
    with Pidfile(str(path)):
        assert path.read_text().splitlines()[0] == str(os.getpid())
        assert os.listdir(path.parent) == [path.name]

    assert not path.exists()


def test_a_live_one_refuses_to_start_and_stays(path, other):
    path.write_text(f"{other}\n{identity.process_start(other)}\n{identity.host()}\n")

    with pytest.raises(ConfigurationError, match=f"process {other} runs already"):
        with Pidfile(str(path)):
            pass

    assert path.read_text().startswith(f"{other}\n")
    assert os.listdir(path.parent) == [path.name]


def test_a_pid_that_is_another_process_now_is_stale(path, other, caplog):
    started = identity.process_start(other) - 1
    path.write_text(f"{other}\n{started}\n{identity.host()}\n")

    with Pidfile(str(path)):
        assert path.read_text().startswith(f"{os.getpid()}\n")

    assert "replacing a stale file" in caplog.text


def test_a_place_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be written"):
        with Pidfile(str(tmp_path / "none" / "pid")):
            pass
