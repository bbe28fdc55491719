"""Processes in sandboxes of real runtimes: gVisor's runsc, and crun."""

import json
import os
import shutil
import signal
import socket
import stat
import sys
import tempfile
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection

from tests.integration.runtime import (
    ROOT,
    family,
    is_running,
    kill,
    once_in_all,
    parent,
    workers,
)
from tests.processes.models import Report, Yearly
from tests.waiting import eventually
from windlass.api import claim_ready_jobs, execute_claimed_job
from windlass.models import Job
from windlass.processes import checks, conf
from windlass.processes.moves import RUNNING
from windlass.processes.sandbox import layout
from windlass.processes.sandbox.instance import pack, unpack

OPTIONS = {**workers(threads=4), "stop_grace": 0.5, "shutdown_timeout": 5}
pytestmark = once_in_all

# crun refuses hosts that have control groups of both versions with something in the
# second. Where that is so it does not get to see them.
BLINDFOLD = """#!/bin/sh
exec unshare --mount --propagation private \\
    sh -c 'umount /sys/fs/cgroup/unified; exec crun "$@"' crun "$@"
"""


@pytest.fixture(params=["runsc", "crun"])
def program(request, tmp_path):
    """The path of a runtime."""
    found = shutil.which(request.param)
    if found is None or os.geteuid() != 0:
        what = f"{request.param} and root, who may make sandboxes of both kinds"
        if os.environ.get("CI") == "true":
            pytest.fail(f"There is no {what}.")
        pytest.skip(f"There is no {what}.")
    if request.param == "crun" and os.path.exists("/sys/fs/cgroup/unified"):
        found = tmp_path / "crun"
        found.write_text(BLINDFOLD)
        found.chmod(0o755)
    return str(found)


@pytest.fixture(autouse=True)
def nobody_left(committed):
    Report.objects.all().delete()
    yield
    Report.objects.all().delete()


@pytest.fixture
def root():
    """Where sandboxes are kept. The path is short, for a socket's is."""
    with tempfile.TemporaryDirectory(prefix="wl-") as directory:
        root = Path(directory) / "sandboxes"
        yield root
        # The runtime was killed by now, all of it at once.
        eventually(lambda: not naming(root), message=lambda: naming(root))


def naming(root):
    """Processes that were told of a directory: runtimes, and who runs in sandboxes."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            told = (place / "cmdline").read_bytes() + (place / "environ").read_bytes()
            if bytes(root) in told:
                found.append((place.name, told[:200]))
    return found


@pytest.fixture
def runtime(root, program, start):
    def begin(**processes):
        said = {
            "EXECUTOR": "sandbox",
            "SANDBOX_RUNTIME": program,
            "SANDBOX_STATE_ROOT": str(root),
            **processes,
        }
        more = {"WINDLASS_TEST_PROCESSES": json.dumps(said), "WANTED": "1"}
        return start(options=OPTIONS, SECRET="1", **more)

    return begin


def ran(process, timeout=60):
    assert process.wait(timeout), said(process)
    return process


def said(process, **which):
    lines = process.logs.filter(**which).order_by("sequence")
    return [line.message for line in lines]


def says(process, text):
    return eventually(lambda: [s for s in said(process) if text in s])


def left(root):
    """What is left in the directory for sandboxes."""
    return [path for part in ("state", "bundles") for path in (root / part).iterdir()]


def test_all_it_says_is_in_its_log_in_order(runtime, root):
    runtime()
    report = Report.objects.create(kind="say")
    report.start()

    ran(report)
    assert report.status == "succeeded", (report.error, said(report))
    found = {(line.stream, line.level, line.message) for line in report.logs.all()}
    assert found >= {
        ("log", "debug", "said"),
        ("logging", "warning", "recorded 1"),
        ("stdout", "info", "printed"),
        ("stderr", "warning", "on the other"),
        ("stdout", "info", "by a program"),
    }
    lines = [line.message for line in report.logs.order_by("sequence")]
    lines.remove("by a program")
    assert (lines[0], lines[-2:]) == ("Started.", ["without an end", "Finished."])
    counted = [text.split() for text in lines if text[:4] in ("even", "odd ")]
    assert [int(number) for _what, number in counted] == list(range(40))
    assert left(root) == []


@pytest.fixture
def outside(tmp_path):
    """Files of the host: of nobody else's business, for all, and to be written."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for name, mode in (("private", 0o600), ("public", 0o666), ("hidden", 0o666)):
        (outside / name).write_text("it")
        (outside / name).chmod(mode)
    (outside / "shared").mkdir()
    (outside / "shared").chmod(0o777)
    return outside


def looked(outside, port):
    paths = [ROOT / "tests", *outside.iterdir(), "/etc/shadow", "/root", "/home"]
    given = {"paths": list(map(str, paths)), "address": ["127.0.0.1", port]}
    report = Report.objects.create(kind="look", given=given)
    report.start()
    ran(report)
    assert report.status == "succeeded", (report.error, said(report))
    return json.loads(said(report, stream="log")[0])


def test_it_is_nobody_and_reaches_nothing(runtime, outside):
    mounts = [f"{outside}/{name}" for name in ("private", "public")]
    runtime(
        SANDBOX_MOUNTS=[*mounts, f"{outside}/shared:rw"],
        SANDBOX_ENVIRONMENT=["WANTED"],
    )

    with socket.create_server(("127.0.0.1", 0)) as listening:
        found = looked(outside, listening.getsockname()[1])

    assert (found["uid"], set(found["groups"]) - {65534}) == (65534, set())
    assert int(found["capabilities"], 16) == 0
    # gVisor does not show it.
    assert found["no_new_privileges"] in ("1", None)
    assert found["read"] == [f"{outside}/public"]
    assert found["written"] == []
    assert found["added"] == [f"{outside}/shared"]
    assert (outside / "shared" / "new").exists()
    assert found["is_temporary"]
    assert not os.path.exists("/tmp/new")
    assert (found["interfaces"], found["connects"]) == (["lo"], False)
    assert "WANTED" in found["names"]
    assert not {"SECRET", "HOSTNAME"} & set(found["names"])


def test_with_the_network_of_the_host_it_reaches_the_database(runtime, outside):
    """The same model as natively, unchanged."""
    server = connection.settings_dict["HOST"]
    sockets = [server] if server.startswith("/") else []
    runtime(SANDBOX_NETWORK="host", SANDBOX_MOUNTS=sockets)
    report = Report.objects.create()
    report.start()

    ran(report)

    assert report.status == "succeeded", (report.error, said(report))
    assert said(report) == ["Started.", "It goes well.", "Finished."]
    assert 1 < int(report.result.split()[0]) < 100


def test_without_it_an_error_says_what_to_do(runtime):
    runtime()
    report = Report.objects.create(kind="query")
    report.start()

    ran(report)

    assert report.status == "failed"
    assert "set SANDBOX_NETWORK" in report.error


def test_a_failure_is_told_with_its_traceback(runtime, root):
    runtime()
    report = Report.objects.create(kind="fail")
    id = report.start()

    ran(report)

    assert (report.status, report.error) == ("failed", "It goes wrong.")
    assert "do_fail" in report.history[-1]["traceback"]
    assert said(report, level="error") == ["It goes wrong."]
    job = eventually(lambda: Job.objects.filter(pk=id, state="failed").first())
    assert "It goes wrong." in job.errors[0].traceback
    assert left(root) == []


def test_one_that_vanishes_has_failed_and_says_how(runtime, root):
    runtime()
    vanished = Report.objects.create(kind="vanish")
    died = Report.objects.create(kind="die_once", attempts=0)
    vanished.start()
    died.start()

    assert "exited with status 3" in ran(vanished).error
    assert "was killed by signal 9" in ran(died).error
    assert "Before." in said(vanished)
    assert left(root) == []


def test_it_hears_sigterm_once_and_cleans_up(runtime, root):
    runtime(KILL_TERM_WAIT_SECONDS=10)
    report = Report.objects.create(kind="wait")
    report.start()
    says(report, "Waiting.")
    report.refresh_from_db()
    name, members = report.sandbox_id, family(report.worker_pid)
    for path in (root, root / "state", root / "bundles", root / "bundles" / name):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700

    report.cancel()

    assert ran(report).status == "cancelled"
    assert (name[:3], report.sandbox_id) == ("wl-", "")
    assert said(report).count("Cleaning up.") == 1
    assert "1 signal, without SIGKILL" in said(report)[-1]
    assert len(members) > 1
    assert not any(map(is_running, members))
    assert left(root) == []


def test_one_that_ignores_sigterm_is_entirely_gone_and_neighbours_live(runtime, root):
    runtime(KILL_TERM_RETRIES=2, KILL_TERM_WAIT_SECONDS=0.5)
    neighbour = Report.objects.create(kind="wait")
    neighbour.start()
    report = Report.objects.create(kind="stay")
    report.start()
    says(report, "near")
    says(report, "far")
    report.refresh_from_db()
    members = family(report.worker_pid)

    report.cancel()

    assert ran(report).status == "cancelled"
    rungs = [s.split()[0] for s in said(report) if "to process group" in s]
    assert rungs == ["SIGTERM", "SIGTERM", "SIGKILL"]
    assert len(members) > 2
    assert not any(map(is_running, members))
    neighbour.refresh_from_db()
    assert neighbour.status == RUNNING
    assert {path.name for path in (root / "bundles").iterdir()} == {
        neighbour.sandbox_id
    }
    assert all(neighbour.sandbox_id in path.name for path in (root / "state").iterdir())
    assert any(map(is_running, family(neighbour.worker_pid)))


def test_what_a_killed_worker_leaves_is_swept(runtime, root):
    started = runtime()
    report = Report.objects.create(kind="wait")
    report.start()
    says(report, "Waiting.")
    (worker,) = started.worker()

    assert_nothing_is_left(report, root, victim=worker)


@pytest.mark.parametrize("program", ["crun"], indirect=True)
def test_what_a_killed_fork_server_leaves_is_swept(runtime, root):
    """Whoever would have killed the sandbox is dead."""
    runtime()
    report = Report.objects.create(kind="wait")
    report.start()
    says(report, "Waiting.")
    report.refresh_from_db()

    assert_nothing_is_left(report, root, victim=parent(report.worker_pid))


def test_what_a_killed_runtime_leaves_is_dead_and_the_next_one_sweeps_it(runtime, root):
    started = runtime()
    report = Report.objects.create(kind="wait")
    report.start()
    says(report, "Waiting.")

    started.send_to_group(signal.SIGKILL)

    eventually(lambda: not naming(root))
    assert left(root)
    runtime()
    eventually(lambda: not left(root))


def assert_nothing_is_left(report, root, *, victim):
    report.refresh_from_db()
    members = family(report.worker_pid)

    kill(victim)

    assert ran(report).status == "failed"
    # Whoever comes next looks for what is left.
    other = Report.objects.create(kind="say")
    other.start()
    assert ran(other).status == "succeeded"
    eventually(lambda: not any(map(is_running, members)))
    eventually(lambda: not left(root))


def test_its_limits_hold(runtime):
    runtime(MEMORY_LIMIT="512M", CPU_LIMIT=3)
    hoarder = Report.objects.create(kind="hoard")
    computer = Report.objects.create(kind="compute")
    for each in (hoarder, computer):
        each.start()

    assert ran(hoarder).error == "It reached its memory limit of 512 MiB."
    assert ran(computer).error == "It used up its 3 s of CPU time."


def test_it_cannot_speak_for_the_supervision_nor_end_who_listens(runtime):
    runtime()
    report = Report.objects.create(kind="forge", given={"path": layout.LOG})
    report.start()

    ran(report)

    assert report.status == "succeeded", (report.error, said(report))
    assert said(report) == ["Started.", "said", "Finished."]
    assert report.progress_data["message"] == "real"


@pytest.mark.parametrize("program", ["crun"], indirect=True)
def test_no_sandbox_is_made_where_others_could_get_at_it(runtime, root):
    root.mkdir()
    root.chmod(0o777)
    runtime()
    report = Report.objects.create(kind="say")
    report.start()

    ran(report)

    assert report.status == "failed"
    assert "mode 0777" in report.error
    assert "printed" not in said(report)


def test_the_check_tries_a_sandbox(settings, program, root):
    settings.WINDLASS_PROCESSES = {
        "EXECUTOR": "sandbox",
        "SANDBOX_RUNTIME": program,
        "SANDBOX_STATE_ROOT": root,
    }
    assert checks.check_sandbox() == []
    assert left(root) == []

    settings.WINDLASS_PROCESSES |= {"SANDBOX_ARGUMENTS": ["--no-such-option"]}
    (error,) = checks.check_sandbox()

    assert error.id == "windlass.processes.E004"
    assert "exited with status" in error.msg
    assert left(root) == []


def test_no_program_is_an_error_with_a_hint(settings, tmp_path):
    broken = tmp_path / "runsc"
    broken.write_text("#!/bin/sh\necho no >&2; exit 3")
    broken.chmod(0o755)

    for given, text in (("no-such-runtime", "no program"), (str(broken), "status 3")):
        settings.WINDLASS_PROCESSES = {"EXECUTOR": "sandbox", "SANDBOX_RUNTIME": given}
        (error,) = [m for m in checks.check_processes() if m.id.endswith("E004")]
        assert text in error.msg
        assert "apt install runsc" in error.hint
    with pytest.raises(SystemCheckError, match=r"status 3.*E004|E004.*status 3"):
        call_command("check", deploy=True)


def test_a_backend_that_makes_no_sandbox_is_warned_of(settings):
    eager = "windlass.processes.backends.eager.EagerBackend"
    settings.WINDLASS_PROCESSES = {"EXECUTOR": "sandbox", "BACKEND": eager}

    assert "windlass.processes.W002" in [m.id for m in checks.check_processes()]


def test_places_where_much_else_is_are_not_seen(monkeypatch, tmp_path):
    project, link = tmp_path / "real", tmp_path / "link"
    project.mkdir()
    link.symlink_to(project)
    monkeypatch.setattr("sys.path", [*sys.path, "/", "/tmp", "relative", str(link)])

    found = layout.layout(conf.parse({"SANDBOX_MOUNTS": ["/etc/hostname:rw"]}))

    assert not found.mounts.keys() & layout.TOO_BROAD
    assert found.mounts[str(project)] is False
    assert found.links[str(link)] == str(project)
    assert found.mounts["/etc/hostname"] is True
    with pytest.raises(FileNotFoundError, match=r'\["SANDBOX_MOUNTS"\]\[0\]'):
        layout.layout(conf.parse({"SANDBOX_MOUNTS": ["/no/such/path"]}))


def test_what_is_no_worker_runs_nothing_that_wants_a_sandbox(settings):
    settings.WINDLASS_PROCESSES = {"EXECUTOR": "sandbox"}
    report = Report.objects.create(kind="say")
    report.start()

    (claimed,) = claim_ready_jobs(1)
    execute_claimed_job(claimed)

    report.refresh_from_db()
    assert report.status == "failed"
    assert "run() was not called" in report.error
    assert "printed" not in said(report)


def test_a_process_of_two_tables_comes_in_whole():
    given = {"rows": [1, "2", None], "text": "\N{SNOWMAN}"}
    report = Yearly.objects.create(year=1999, kind="say", given=given)
    report.timeout = timedelta(microseconds=1)
    report.started = report.created

    packed = json.loads(json.dumps(pack(report)))
    found = unpack(packed)

    for field in Yearly._meta.concrete_fields:
        assert getattr(found, field.attname) == getattr(report, field.attname)
    assert found == report
    assert not found._state.adding
    assert found._windlass_seen == {
        name: getattr(report, name) for name in found._windlass_seen
    }
