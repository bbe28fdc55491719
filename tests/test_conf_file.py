"""The file of options and the environment: which has the last word, and mistakes."""

import pytest

from windlass import conf
from windlass.exceptions import ConfigurationError

ENTRY = {"BACKEND": "windlass.backend.WindlassBackend"}


@pytest.fixture
def said(settings, tmp_path, monkeypatch):
    """Say options in the settings, in a file, and in the environment."""

    def said(text=None, *, mode=None, **options):
        settings.TASKS = {"default": {**ENTRY, "OPTIONS": options}, "mail": ENTRY}
        if text is not None:
            path = tmp_path / "windlass.toml"
            path.write_text(text)
            monkeypatch.setenv("WINDLASS_CONFIG", str(path))
        if mode is not None:
            monkeypatch.setenv("WINDLASS_MODE", mode)
        conf.options.cache_clear()
        return conf.options("default")

    yield said
    conf.options.cache_clear()


@pytest.fixture
def refusal(said):
    def refusal(*given, **options):
        with pytest.raises(ConfigurationError) as refused:
            said(*given, **options)
        return str(refused.value)

    return refusal


def test_the_file_beats_the_settings_option_by_option(said):
    options = said(
        '[default]\nshutdown_timeout = 5\n[[default.workers]]\nqueues = ["mail"]\n',
        shutdown_timeout=60,
        stop_grace=2,
        workers=[{"threads": 9}],
    )

    assert (options.shutdown_timeout, options.stop_grace) == (5, 2)
    assert [(each.queues, each.threads) for each in options.workers] == [(("mail",), 3)]
    assert conf.options("mail").shutdown_timeout == 30


def test_the_environment_beats_the_file_and_the_command_line_beats_both(said):
    options = said('[default]\nmode = "fork"\n', mode="async")

    assert options.mode == "async"
    assert options.with_command_line(mode="fork").mode == "fork"


def test_a_file_can_say_never(said):
    options = said('[default]\nclear_finished_jobs_after = "never"\n')

    assert options.clear_finished_jobs_after is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[default]\nthreads = 3\n",
            'windlass.toml["default"]["threads"]: unknown option; did you mean '
            '{path}["default"]["workers"][\'threads\']?',
        ),
        (
            "[[default.workers]]\nthread = 3\n",
            'windlass.toml["default"]["workers"][0]["thread"]: unknown option; '
            'did you mean "threads"?',
        ),
        (
            "[default]\nstop_grace = 0\n",
            'windlass.toml["default"]["stop_grace"] must be a number of seconds above',
        ),
        (
            "[defualt]\n",
            'windlass.toml["defualt"]: TASKS has no such Windlass backend; did you '
            'mean "default"?',
        ),
        ("[default\n", "windlass.toml is not TOML: "),
    ],
)
def test_a_mistake_is_told_with_the_file_and_the_path(refusal, text, message, tmp_path):
    path = tmp_path / "windlass.toml"
    message = message.replace("{path}", str(path)).replace("['threads']", '["threads"]')

    assert message in refusal(text)


def test_a_file_that_is_not_there_is_an_error(refusal, monkeypatch, tmp_path):
    monkeypatch.setenv("WINDLASS_CONFIG", str(tmp_path / "none.toml"))

    assert "none.toml cannot be read: No such file" in refusal()


def test_a_wrong_mode_in_the_environment_names_the_variable(refusal):
    assert refusal(mode="threads").startswith("WINDLASS_MODE must be one of")
