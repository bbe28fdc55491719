"""The settings: what they default to, and how a mistake in them is told."""

from dataclasses import fields
from datetime import timedelta

import pytest

from windlass import conf
from windlass.conf import Options, WorkerOptions
from windlass.exceptions import ConfigurationError

BACKEND = "windlass.backend.WindlassBackend"
IMMEDIATE = "windlass.tasks_api.ImmediateBackend"


def parsed(**options):
    return conf.parse("default", {"BACKEND": BACKEND, "OPTIONS": options})


def parsed_worker(**worker):
    return parsed(workers=[worker]).workers[0]


def refusal(entry):
    with pytest.raises(ConfigurationError) as refused:
        conf.parse("default", entry)
    return str(refused.value)


def test_an_entry_that_says_nothing_gets_the_defaults():
    options = conf.parse("default", {"BACKEND": BACKEND})

    assert options == Options(alias="default")
    assert options.mode == "fork"
    assert options.workers == (
        WorkerOptions(
            queues=("*",),
            processes=1,
            threads=3,
            async_concurrency=100,
            polling_interval=0.1,
        ),
    )
    assert options.database_alias == "default"
    assert options.wakeup == "auto"
    assert options.process_heartbeat_interval == 5
    assert options.process_alive_threshold == 30
    assert options.shutdown_timeout == 30
    assert options.liveness_file is None
    assert (options.max_attempts, options.backoff) == (1, None)


def test_every_field_can_be_set_and_every_name_has_a_field():
    worker_fields = {field.name for field in fields(WorkerOptions)}
    entry_fields = {field.name for field in fields(Options)} - {"alias"}

    assert set(conf._WORKER) == worker_fields
    assert {*conf._OPTIONS, "queues", "max_attempts", "backoff"} == entry_fields


def test_what_is_said_is_what_is_read():
    options = conf.parse(
        "default",
        {
            "BACKEND": BACKEND,
            "QUEUES": ["mail", "reports"],
            "MAX_ATTEMPTS": 5,
            "BACKOFF": timedelta(minutes=1),
            "OPTIONS": {
                "mode": "async",
                "workers": {"queues": "mail, rep*", "threads": 8},
                "wakeup": "poll",
                "shutdown_timeout": 0,
            },
        },
    )

    assert options.queues == ("mail", "reports")
    assert (options.max_attempts, options.backoff) == (5, 60.0)
    assert options.mode == "async"
    assert options.workers == (WorkerOptions(queues=("mail", "rep*"), threads=8),)
    assert (options.wakeup, options.shutdown_timeout) == ("poll", 0)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("*", ("*",)),
        ("mail", ("mail",)),
        ("mail, reports_*,*", ("mail", "reports_*", "*")),
        (["mail", "*"], ("mail", "*")),
        (("mail", "mail"), ("mail",)),
    ],
)
def test_selectors_are_a_list_or_a_string_with_commas(written, read):
    assert parsed_worker(queues=written).queues == read


@pytest.mark.parametrize("written", ["", " ", "a,,b", "*a", "a*b", "**", None, 3, []])
def test_a_selector_that_is_no_name_no_prefix_and_no_star_is_refused(written):
    with pytest.raises(ConfigurationError, match=r'\["workers"\]\[0\]\["queues"\]'):
        parsed_worker(queues=written)


@pytest.mark.parametrize("written", [["a,b"], ["ok", ""], [None], [True]])
def test_a_wrong_selector_in_a_list_is_named_by_its_index(written):
    index = len(written) - 1

    with pytest.raises(ConfigurationError, match=rf'\["queues"\]\[{index}\] must be'):
        parsed_worker(queues=written)


@pytest.mark.parametrize("backoff", [None, 0, 2.5, "shop.backoff.slowly", max])
def test_a_backoff_is_seconds_a_path_a_callable_or_nothing(backoff):
    assert conf.parse("default", {"BACKOFF": backoff}).backoff == backoff


@pytest.mark.parametrize(
    "backoff", [-1, True, float("nan"), "slowly", "a..b", [1], timedelta(seconds=-1)]
)
def test_any_other_backoff_is_refused(backoff):
    assert refusal({"BACKOFF": backoff}).startswith('TASKS["default"]["BACKOFF"] must')


def test_a_liveness_file_is_a_path_of_either_kind_or_nothing(tmp_path):
    assert parsed(liveness_file=None).liveness_file is None
    assert parsed(liveness_file="/run/alive").liveness_file == "/run/alive"
    assert parsed(liveness_file=tmp_path).liveness_file == str(tmp_path)


@pytest.mark.parametrize("value", ["", 3, True, ["/run/alive"]])
def test_any_other_liveness_file_is_refused(value):
    with pytest.raises(ConfigurationError, match="must be the path of a file, or None"):
        parsed(liveness_file=value)


def test_an_unknown_name_is_told_with_its_path_and_the_nearest_name():
    assert refusal({"OPTIONS": {"workers": [{"thread": 3}]}}) == (
        'TASKS["default"]["OPTIONS"]["workers"][0]["thread"]: unknown option; '
        'did you mean "threads"?'
    )
    assert refusal({"OPTIONS": {"workers": {"thread": 3}}}).startswith(
        'TASKS["default"]["OPTIONS"]["workers"]["thread"]: unknown option; '
    )
    assert refusal({"MAX_ATTEMPT": 3}) == (
        'TASKS["default"]["MAX_ATTEMPT"]: unknown option; did you mean "MAX_ATTEMPTS"?'
    )


def test_a_name_like_no_other_is_told_with_the_names_there_are():
    message = refusal({"OPTIONS": {"workers": [{"colour": "red"}]}})

    assert message.endswith(
        'unknown option; the names it knows are "queues", "processes", "threads", '
        '"async_concurrency", "polling_interval", "job_pause", "max_jobs", "max_memory"'
    )


@pytest.mark.parametrize(
    ("entry", "place"),
    [
        ({"OPTIONS": {"max_attempts": 3}}, 'TASKS["default"]["MAX_ATTEMPTS"]'),
        ({"OPTIONS": {"backoff": 3}}, 'TASKS["default"]["BACKOFF"]'),
        ({"mode": "async"}, 'TASKS["default"]["OPTIONS"]["mode"]'),
        (
            {"OPTIONS": {"threads": 3}},
            'TASKS["default"]["OPTIONS"]["workers"]["threads"]',
        ),
    ],
)
def test_a_name_in_the_wrong_place_is_told_the_right_one(entry, place):
    assert refusal(entry).endswith(f": unknown option; did you mean {place}?")


@pytest.mark.parametrize("name", ["processes", "threads", "async_concurrency"])
@pytest.mark.parametrize("value", [True, 0, -1, 1.0, "3", None])
def test_a_count_is_a_whole_number_of_at_least_1(name, value):
    with pytest.raises(ConfigurationError) as refused:
        parsed_worker(**{name: value})

    assert str(refused.value) == (
        f'TASKS["default"]["OPTIONS"]["workers"][0]["{name}"] must be a whole number '
        f"of at least 1, not {value!r}"
    )


@pytest.mark.parametrize(
    "value", [True, 0, -0.1, "5", None, float("nan"), float("inf"), 10**400]
)
def test_an_interval_is_a_finite_number_above_0(value):
    with pytest.raises(ConfigurationError, match="must be a number of seconds above 0"):
        parsed(process_heartbeat_interval=value)
    with pytest.raises(ConfigurationError, match="must be a number of seconds above 0"):
        parsed_worker(polling_interval=value)


@pytest.mark.parametrize("value", [-1, False, float("nan"), float("inf")])
def test_a_shutdown_may_be_at_once_but_not_in_the_past(value):
    assert parsed(shutdown_timeout=0).shutdown_timeout == 0

    with pytest.raises(ConfigurationError, match="seconds, 0 or more"):
        parsed(shutdown_timeout=value)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("fork", "TASKS[\"default\"] must be a mapping, not 'fork'"),
        ({"OPTIONS": []}, 'TASKS["default"]["OPTIONS"] must be a mapping, not []'),
        ({"QUEUES": "mail"}, "must be a list of queue names, not 'mail'"),
        ({"QUEUES": ["mail", ""]}, "[\"QUEUES\"][1] must be a queue name, not ''"),
        ({"OPTIONS": {"workers": []}}, "or a list of at least one, not []"),
        (
            {"OPTIONS": {"workers": ["*"]}},
            "[\"workers\"][0] must be a mapping, not '*'",
        ),
        ({"OPTIONS": {"mode": "thread"}}, 'must be one of "fork", "async"'),
        (
            {"OPTIONS": {"wakeup": ["poll"]}},
            'must be one of "auto", "notify", "redis", "poll"',
        ),
        ({"OPTIONS": {"database_alias": "nowhere"}}, "must be one of DATABASES"),
        ({"OPTIONS": {"database_alias": {}}}, "must be one of DATABASES"),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_with_what_it_should_be(entry, message):
    assert message in refusal(entry)


def test_the_aliases_are_those_whose_backend_is_windlass(settings):
    settings.TASKS = {
        "mail": {"BACKEND": BACKEND},
        "tests": {"BACKEND": IMMEDIATE},
        "default": {"BACKEND": BACKEND},
        "gone": {"BACKEND": "no.such.Backend"},
        "empty": {},
    }

    assert conf.aliases() == ("mail", "default")


def test_a_project_without_tasks_has_no_aliases(settings):
    settings.TASKS = {}

    assert conf.aliases() == ()


def test_options_are_read_once_and_again_when_the_settings_change(settings):
    settings.TASKS = {"default": {"BACKEND": BACKEND, "MAX_ATTEMPTS": 2}}
    first = conf.options("default")
    assert conf.options("default") is first

    settings.TASKS = {"default": {"BACKEND": BACKEND, "MAX_ATTEMPTS": 3}}

    assert (first.max_attempts, conf.options("default").max_attempts) == (2, 3)


def test_the_options_of_an_alias_that_is_not_there_are_refused(settings):
    settings.TASKS = {"default": {"BACKEND": BACKEND}}

    with pytest.raises(ConfigurationError, match='TASKS has "default", and no "mail"'):
        conf.options("mail")


def test_mode_async_has_one_process_whatever_the_settings_say(settings):
    workers = [{"processes": 4, "threads": 2}]
    options = {"mode": "async", "workers": workers}
    settings.TASKS = {"default": {"BACKEND": BACKEND, "OPTIONS": options}}

    assert conf.options("default").workers == (WorkerOptions(processes=1, threads=2),)


def test_an_empty_command_line_changes_nothing():
    options = parsed(workers=[{"queues": "a"}, {"queues": "b"}])

    assert options.with_command_line() == options


def test_the_command_line_sets_processes_and_threads_of_each_worker():
    options = parsed(workers=[{"queues": "a"}, {"queues": "b", "threads": 9}])

    changed = options.with_command_line(processes=2, threads=5)

    assert [(w.queues, w.processes, w.threads) for w in changed.workers] == [
        (("a",), 2, 5),
        (("b",), 2, 5),
    ]
    assert options.workers[0].threads == 3


def test_queues_on_the_command_line_ask_for_one_worker():
    options = parsed(workers=[{"queues": "a", "threads": 7}, {"queues": "b"}])

    changed = options.with_command_line(queues="mail, rep*")

    assert changed.workers == (WorkerOptions(queues=("mail", "rep*"), threads=7),)


@pytest.mark.parametrize(
    ("flag", "value"),
    [("mode", "thread"), ("queues", ""), ("processes", 0), ("threads", True)],
)
def test_a_wrong_command_line_is_told_with_its_flag(flag, value):
    with pytest.raises(ConfigurationError, match=f"^--{flag} must be"):
        parsed().with_command_line(**{flag: value})


def test_asking_mode_async_for_processes_warns_and_runs_in_one():
    with pytest.warns(RuntimeWarning, match="one process"):
        changed = parsed().with_command_line(mode="async", processes=4)

    assert changed.workers[0].processes == 1
