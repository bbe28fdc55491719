"""Who a process is: a pid alone says little."""

import os
import signal
import subprocess
import sys

from windlass.runtime import identity


def test_node_ids_are_positive_and_do_not_repeat():
    ids = {identity.new_node_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(0 < id < 2**63 for id in ids)


def test_this_process_runs_and_a_younger_one_with_its_pid_does_not():
    pid = os.getpid()
    started = identity.process_start(pid)
    assert identity.is_running(pid, started)
    assert not identity.is_running(pid, started - 1)
    assert identity.is_running(pid, 0)  # a start that nobody could tell


def test_the_dead_and_the_zombies_do_not_run():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = identity.process_start(child.pid)
    assert identity.is_running(child.pid, started)
    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    assert not identity.is_running(child.pid, started)  # a zombie
    child.communicate()
    assert not identity.is_running(child.pid, started)  # gone
    assert identity.process_start(child.pid) == 0


def test_a_process_name_with_parentheses_and_spaces_is_read_right(tmp_path):
    program = tmp_path / "a) R 1 (b"
    program.symlink_to("/bin/sleep")
    child = subprocess.Popen([program, "60"])
    try:
        started = identity.process_start(child.pid)
        assert abs(started - identity.process_start(os.getpid())) < 10**9
        assert identity.is_running(child.pid, started)
    finally:
        child.kill()
        child.wait()


def test_the_host_names_the_scope_of_a_pid():
    assert identity.host() == identity.host()
    assert 0 < len(identity.host()) <= 255
