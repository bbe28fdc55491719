"""Hooks are called in the right process at the right moment, whatever they raise."""

import pytest

from tests.integration.project import tasks
from tests.integration.runtime import kill, once_in_all, workers
from tests.integration.states import states
from tests.waiting import eventually

pytestmark = once_in_all

APP = "tests.integration.project.hooked"
TOLD = {"on_thread_error": f"{APP}.tasks.note_error"}


@pytest.fixture
def hooked(start, tmp_path):
    """Start a runtime with hooks; give it back with a function for what they noted."""
    file = tmp_path / "hooked"

    def noted(word=None):
        lines = file.read_text().splitlines() if file.exists() else []
        found = [(w, int(p), int(q)) for w, p, q in map(str.split, lines)]
        return [each for each in found if word in (None, each[0])]

    def hooked(*arguments, **options):
        runtime = start(
            *arguments,
            options={**TOLD, **options},
            WINDLASS_TEST_APPS=APP,
            WINDLASS_TEST_HOOKED=str(file),
        )
        return runtime, noted

    return hooked


@pytest.mark.parametrize("mode", ["fork", "async"])
def test_each_part_tells_its_start_its_stop_and_its_exit_once(hooked, mode):
    runtime, noted = hooked("--mode", mode)
    runtime.worker() if mode == "fork" else eventually(
        lambda: noted("worker.start") and noted("scheduler.start")
    )
    eventually(lambda: noted("scheduler.start"))

    assert runtime.stop() == 0

    for kind in ("supervisor", "worker", "dispatcher", "scheduler"):
        words = [w for w, _pid, _parent in noted() if w.startswith(f"{kind}.")]
        assert words == [f"{kind}.start", f"{kind}.stop", f"{kind}.exit"]
    (first, *_rest, last) = noted()
    assert (first[0], last[0]) == ("supervisor.start", "supervisor.exit")
    (worker,) = noted("worker.start")
    assert worker[1 if mode == "async" else 2] == runtime.pid
    assert len(noted("error:SystemExit")) == 4


def test_a_part_that_was_killed_is_told_as_an_error(hooked):
    runtime, noted = hooked(**workers(threads=1))
    (pid,) = runtime.worker()

    kill(pid)

    eventually(lambda: noted("error:ProcessExitError"))
    eventually(lambda: len(noted("worker.start")) == 2)
    tasks.work.enqueue()
    eventually(lambda: states() == {"succeeded": 1})


def test_a_second_runtime_with_the_same_pid_file_does_not_start(hooked, tmp_path):
    path = tmp_path / "windlass.pid"
    runtime, _noted = hooked(supervisor_pidfile=str(path))
    runtime.worker()

    second, _noted = hooked(supervisor_pidfile=str(path))

    assert second.wait() == 2
    assert f"process {runtime.pid} runs already" in second.said()
    assert runtime.stop() == 0
    assert not path.exists()


def test_a_file_of_options_reaches_the_runtime_and_its_checks(start, tmp_path):
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text('[[default.workers]]\nqueues = ["mail"]\nthreads = 2\n')
    bad.write_text("[[default.workers]]\nthread = 2\n")

    runtime = start("--config", str(good))
    (_pid,) = runtime.worker()
    refused = start("--config", str(bad))

    assert refused.wait() != 0
    assert 'bad.toml["default"]["workers"][0]["thread"]' in refused.said()
    assert 'did you mean "threads"?' in refused.said()
    assert runtime.nodes()[0].details["queues"] == ["mail"]
