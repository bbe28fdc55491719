"""``manage.py windlass_health`` beside real runtimes, well and in trouble."""

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection

import windlass
from tests.contract.rows import new
from tests.integration.project import tasks
from tests.integration.runtime import ROOT, environment, kill, once_in_all, workers
from tests.integration.states import job, states
from tests.integration.test_command import a_database
from tests.waiting import eventually
from windlass.db import Lane, dialect
from windlass.jobs import lifecycle
from windlass.models import Node

STUBBORN = "tests.integration.project.unyielding"
# Nobody is given up while a test looks at it.
PATIENT = {"process_alive_threshold": 120}
# Longer than a busy machine keeps a process waiting, short enough to wait for.
MAX_AGE = "3"


def ask(*arguments):
    """The exit code and the answer of one look, from this process."""
    said = io.StringIO()
    try:
        call_command(
            "windlass_health", "--json", "--max-age", MAX_AGE, *arguments, stdout=said
        )
    except SystemExit as end:
        return end.code, json.loads(said.getvalue())
    return 0, json.loads(said.getvalue())


def reasons(*arguments):
    """What is wrong, as one text."""
    code, answer = ask(*arguments)
    assert code == (1 if answer["reasons"] else 0)
    assert answer["healthy"] == (not answer["reasons"])
    return "\n".join(answer["reasons"])


def is_well(*arguments):
    return not reasons("--deep", *arguments)


def eventually_says(*texts, only=True):
    """Wait for a reason that holds these texts, and until there is no other."""

    def found():
        lines = reasons("--deep").splitlines()
        said = [line for line in lines if all(text in line for text in texts)]
        return lines if said and (len(lines) == 1 or not only) else None

    return eventually(found, message=lambda: reasons("--deep"))


@pytest.fixture
def gate(tmp_path):
    """A file for which stubborn processes wait."""
    return tmp_path / "gate"


@pytest.fixture
def stubborn(start, gate):
    """Start a runtime whose processes stand still when told."""

    def stubborn(*arguments, **options):
        return start(
            *arguments,
            options={**PATIENT, **options},
            WINDLASS_TEST_APPS=STUBBORN,
            WINDLASS_TEST_GATE=str(gate),
        )

    yield stubborn
    gate.touch()


# Well


@pytest.mark.parametrize("mode", ["fork", "async"])
def test_a_runtime_that_works_is_healthy(start, mode):
    runtime = start("--mode", mode, options=PATIENT)
    eventually(is_well, message=lambda: reasons("--deep"))
    result = tasks.work.enqueue()
    eventually(lambda: job(result).state == "succeeded")

    code, answer = ask("--deep", "--require-version", windlass.__version__)

    assert (code, answer["healthy"], answer["reasons"]) == (0, True, [])
    assert answer["backend"] == "default"
    assert {node["kind"] for node in answer["nodes"]} == {"worker", "dispatcher"}
    for node in answer["nodes"]:
        assert node["live"]
        assert node["version"] == windlass.__version__
        assert node["pid"] == runtime.pid or mode == "fork"


@once_in_all
def test_a_worker_that_waits_for_long_jobs_is_healthy(start, gate):
    start(options={**PATIENT, **workers(threads=1)})
    tasks.wait_for.enqueue(str(gate))
    tasks.wait_for.enqueue(str(gate))
    eventually(lambda: states().get("running"))

    def beaten():
        worker = Node.objects.get(kind="worker")
        return (worker.details.get("longest") or {}).get("seconds", 0) > 1

    eventually(beaten)

    assert is_well()
    details = Node.objects.get(kind="worker").details
    assert details["running"] == 1
    assert details["longest"]["task"].endswith("wait_for")
    assert details["overdue"] == []
    gate.touch()


# In trouble


def test_without_any_live_node_it_is_unhealthy_and_says_what_to_start(committed):
    assert "Start manage.py windlass" in reasons()
    assert "Start manage.py windlass" in reasons("--deep")


@once_in_all
def test_a_suspended_worker_is_named_although_others_live(start):
    runtime = start(options={**PATIENT, **workers(processes=2)})
    pids = runtime.worker(2)
    eventually(is_well)

    kill(pids[0], signal.SIGSTOP)
    eventually_says("no heartbeat for", f"pid {pids[0]}")

    assert not reasons()
    kill(pids[0], signal.SIGCONT)
    eventually(is_well)


@once_in_all
def test_a_claim_loop_that_stands_still_is_named_although_the_worker_beats(
    stubborn, gate
):
    runtime = stubborn()
    (pid,) = runtime.worker()
    eventually(is_well)

    kill(pid, signal.SIGUSR1)

    lines = eventually_says("claim loop has not turned", f"pid {pid}", only=False)
    assert not [line for line in lines if "no heartbeat" in line]
    # Then nobody serves its queues either.
    assert [line for line in lines if "No live worker serves the queue '*'" in line]
    gate.touch()
    eventually(is_well)


@once_in_all
def test_a_service_that_stands_still_is_named_although_the_dispatcher_beats(
    stubborn, gate
):
    runtime = stubborn()
    runtime.worker()
    eventually(is_well)
    (dispatcher,) = runtime.nodes(Node.Kind.DISPATCHER)

    kill(dispatcher.pid, signal.SIGUSR1)

    eventually_says("its janitor has owed a tick", f"pid {dispatcher.pid}")
    gate.touch()
    eventually(is_well)


@once_in_all
def test_an_event_loop_that_a_coroutine_blocks_is_named(start, gate):
    start(options=PATIENT)
    eventually(is_well)

    tasks.hog.enqueue(str(gate))

    eventually_says("event loop has not turned")
    gate.touch()
    eventually(is_well)


@once_in_all
def test_a_worker_all_of_whose_threads_are_past_their_limit_is_stuck(stubborn, gate):
    stubborn(**workers(threads=2), stop_grace=60)
    eventually(is_well)
    path = "tests.integration.project.stubborn.hold_on"
    slow = [new(str(gate), path=path, policy={"timeout": 0.1}) for _ in range(2)]

    dialect("default").insert(slow[0])
    eventually(lambda: Node.objects.get(kind="worker").details.get("overdue"))
    assert is_well()

    dialect("default").insert(slow[1])
    eventually_says("each of its 2 slots (threads) is stuck", slow[0].id, slow[1].id)
    gate.touch()
    eventually(is_well)


def test_a_running_job_without_an_owner_is_found(start, settings):
    serve(settings, "default")
    # The janitor makes its first sweep after six heartbeats.
    slow = {**PATIENT, "process_heartbeat_interval": 10}
    runtime = start("--queues", "default", options=slow)
    runtime.worker()
    eventually(is_well)

    tasks.work.using(queue_name="elsewhere").enqueue()
    lanes = [Lane("elsewhere", 0)]
    lifecycle.claim(dialect("default"), 77, "default", lanes, 1)

    (line,) = eventually_says("1 running job of the node 000000000000004d")
    assert "not registered" in line


def test_a_configured_queue_that_nobody_serves_is_named(start, settings):
    serve(settings, "default", "mail", "rep*")
    runtime = start("--queues", "default,re*", options=PATIENT)
    runtime.worker()

    (line,) = eventually_says("No live worker serves the queue 'mail'")

    assert "the settings name" in line


def test_a_queue_that_nobody_serves_is_named_once_a_job_waits_there(start, settings):
    serve(settings, "default")
    runtime = start("--queues", "default", options=PATIENT)
    runtime.worker()
    eventually(is_well)

    tasks.work.using(queue_name="elsewhere").enqueue()

    (line,) = eventually_says("No live worker serves the queue 'elsewhere'")
    assert "--queues elsewhere" in line


def test_without_a_dispatcher_nobody_would_recover_a_host(start):
    start("--only-work", options=PATIENT).worker()

    eventually_says("No dispatcher")

    assert not reasons()


@once_in_all
def test_nodes_of_another_version_are_listed(start):
    runtime = start(options=PATIENT)
    (pid,) = runtime.worker()
    eventually(is_well)

    found = reasons("--require-version", "99.1")

    assert f"pid {pid}" in found
    assert f"it runs Windlass {windlass.__version__}, and 99.1 is required" in found
    assert len(found.splitlines()) == 2


def serve(settings, *queues):
    """Configure which queues there are; nobody has to serve them yet."""
    options = workers(queues=list(queues))
    entry = {**settings.TASKS["default"], "OPTIONS": options}
    settings.TASKS = {"default": entry}


# As a command


def command(env, *arguments, timeout=30):
    return subprocess.run(
        [sys.executable, "-m", "django", "windlass_health", *arguments],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )


def test_it_says_healthy_or_why_not_and_exits_accordingly(start, journal):
    env = environment(journal.path)
    before = command(env)
    start().worker()
    after = command(env)

    assert before.returncode == 1
    assert before.stdout.startswith("No node of the backend 'default'")
    assert after.returncode == 0
    assert after.stdout.startswith("Healthy: the backend 'default' has ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--backend", "nowhere"], "TASKS has no such Windlass backend"),
        (["--max-age", "0"], "--max-age must be a number of seconds above 0"),
        (["--max-age", "nan"], "--max-age must be a number of seconds above 0"),
        (["--max-age", "soon"], "invalid float value"),
        (["--shallow"], "unrecognized arguments"),
    ],
)
def test_flags_that_make_no_sense_exit_2(committed, journal, arguments, said):
    done = command(environment(journal.path), *arguments)

    assert done.returncode == 2
    assert said in done.stdout
    assert "Traceback" not in done.stdout


@contextmanager
def without_tables(env, tmp_path):
    if connection.vendor == "sqlite":
        yield {**env, "WINDLASS_TEST_NAME": str(tmp_path / "empty.sqlite3")}
    else:
        name = f"empty{connection.settings_dict['NAME']}"
        with a_database(name):
            yield {**env, "WINDLASS_TEST_NAME": name}


def test_missing_tables_are_unhealthy_and_say_migrate(committed, journal, tmp_path):
    with without_tables(environment(journal.path), tmp_path) as env:
        done = command(env, "--deep")

    assert done.returncode == 1
    assert done.stdout.startswith("The database 'default' lacks: windlass.0001_initial")
    assert "manage.py migrate" in done.stdout
    assert "Traceback" not in done.stdout


def nowhere(env, tmp_path):
    """An environment whose database cannot be reached."""
    if connection.vendor == "sqlite":
        return {**env, "WINDLASS_TEST_NAME": str(tmp_path / "no" / "db.sqlite3")}
    address = {"HOST": "127.0.0.1", "PORT": "1"}
    return {**env, "WINDLASS_TEST_SERVER": json.dumps(address)}


def test_a_database_that_cannot_be_reached_is_unhealthy(committed, journal, tmp_path):
    done = command(nowhere(environment(journal.path), tmp_path), "--json")

    answer = json.loads(done.stdout)
    assert done.returncode == 1
    assert (answer["healthy"], answer["nodes"]) == (False, [])
    (reason,) = answer["reasons"]
    assert reason.startswith("The database 'default' does not answer: ")
    assert "\n" not in reason


@pytest.mark.skipif(connection.vendor == "sqlite", reason="a file always answers")
def test_a_database_that_hangs_is_unhealthy_after_max_age(committed, journal):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = {"HOST": "127.0.0.1", "PORT": str(silent.getsockname()[1])}
        env = environment(journal.path, WINDLASS_TEST_SERVER=json.dumps(address))
        done = command(env, "--max-age", "0.5")

    assert done.returncode == 1
    assert "does not answer: no answer within 0.5 s" in done.stdout
    assert "Traceback" not in done.stdout


# The liveness file


def touched(file: Path):
    """When the file was last touched; 0 if it is not there."""
    return file.stat().st_mtime if file.exists() else 0.0


def probe(file: Path):
    """What the guide's own line says of a liveness file."""
    (line,) = re.findall(r"- (test .*)", (ROOT / "docs/guides/health.md").read_text())
    line = line.replace("/tmp/windlass-alive", str(file))
    done = subprocess.run(["sh", "-c", line], stderr=subprocess.DEVNULL)
    return done.returncode == 0


def touched_again(file: Path):
    before = touched(file)
    return eventually(lambda: touched(file) > before)


@once_in_all
@pytest.mark.parametrize("mode", ["fork", "async"])
def test_the_liveness_file_is_touched_while_it_runs_and_goes_with_it(
    start, tmp_path, mode
):
    file = tmp_path / "alive"
    runtime = start("--mode", mode, options={"liveness_file": str(file)})
    runtime.worker() if mode == "fork" else eventually(Node.objects.count)
    touched_again(file)
    touched_again(file)
    assert probe(file)

    assert runtime.stop() == 0

    assert not file.exists()
    assert not probe(file)


@once_in_all
def test_the_liveness_file_of_a_suspended_supervisor_grows_old(start, tmp_path):
    file = tmp_path / "alive"
    runtime = start(options={**PATIENT, "liveness_file": str(file)})
    touched_again(file)

    runtime.send(signal.SIGSTOP)
    eventually(lambda: touched(file) < time.time() - 3)

    os.utime(file, (0, touched(file) - 30))
    assert not probe(file)
    runtime.send(signal.SIGCONT)
    touched_again(file)
    assert probe(file)


@once_in_all
def test_a_liveness_file_that_cannot_be_written_is_said_once(start, tmp_path):
    file = tmp_path / "missing" / "alive"
    runtime = start(options={"liveness_file": str(file)})
    result = tasks.work.enqueue()

    eventually(lambda: job(result).state == "succeeded")
    eventually(lambda: "liveness file cannot be written" in runtime.said())
    file.parent.mkdir()
    eventually(file.exists)

    assert runtime.said().count("liveness file cannot be written") == 1
