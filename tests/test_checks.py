"""The system checks: each id, what brings it up and what settles it."""

import inspect
import re
from contextlib import suppress
from pathlib import Path

import pytest
from django.core.checks import Warning
from django.core.checks.registry import registry
from django.db import connections

from windlass import checks, checks_jobs
from windlass.checks import check_backend, check_deployment

BACKEND = "windlass.backend.WindlassBackend"
ROUTER = "windlass.routers.WindlassRouter"
PAGE = Path(__file__).parent.parent / "docs" / "reference" / "checks.md"
ENGINES = "django.db.backends"


@pytest.fixture
def use(settings):
    def tasks(**options):
        beside = {name: options.pop(name) for name in list(options) if name.isupper()}
        entry = {"BACKEND": BACKEND, "QUEUES": [], "OPTIONS": options, **beside}
        settings.TASKS = {"default": entry}

    return tasks


@pytest.fixture
def jobs_database(settings, monkeypatch):
    """Add the database "jobs", routed, on an engine of choice."""
    settings.DATABASE_ROUTERS = [ROUTER]

    def add(engine="sqlite3", **options):
        database = dict(connections.settings["default"])
        database |= {"ENGINE": f"{ENGINES}.{engine}", "NAME": "x", "OPTIONS": options}
        # Not by assignment: Django warns of that, because open connections stay.
        monkeypatch.setitem(connections.settings, "jobs", database)

    yield add
    with suppress(AttributeError):  # Not every test makes the connection.
        del connections["jobs"]


def ids(messages=None):
    found = check_backend("default") if messages is None else messages
    for message in found:
        assert message.hint
    return [message.id.removeprefix("windlass.") for message in found]


def test_the_quick_start_is_quiet(use):
    use()

    assert ids() == []


def test_the_app_must_be_installed(use, settings):
    use()
    others = [app for app in settings.INSTALLED_APPS if not app.startswith("windlass")]

    settings.INSTALLED_APPS = others

    assert ids() == ["E001"]


def test_a_mistake_in_the_settings_is_reported_with_its_path(use):
    use(workers=[{"thread": 3}])

    (message,) = check_backend("default")

    assert message.id == "windlass.E002"
    assert message.msg == (
        'TASKS["default"]["OPTIONS"]["workers"][0]["thread"]: unknown option; '
        'did you mean "threads"?'
    )


@pytest.mark.parametrize("path", ["no.such.backoff", "math.nothing", "math.pi"])
def test_a_backoff_must_lead_to_a_callable(use, path):
    use(BACKOFF=path)

    (message,) = check_backend("default")

    assert message.id == "windlass.E002"
    assert message.msg.startswith('TASKS["default"]["BACKOFF"]')


def test_a_backoff_that_leads_to_a_callable_is_fine(use):
    use(BACKOFF="math.exp")

    assert ids() == []


def test_a_node_needs_three_heartbeats_before_it_is_given_up(use):
    use(process_heartbeat_interval=10, process_alive_threshold=29)
    assert ids() == ["E003"]

    use(process_heartbeat_interval=10, process_alive_threshold=30)
    assert ids() == []


def test_a_database_of_its_own_needs_a_router(use, settings, jobs_database):
    jobs_database()
    use(database_alias="jobs")
    assert ids() == []

    settings.DATABASE_ROUTERS = []
    assert ids() == ["E004"]


class MigrationsOnly:
    """A router that has an opinion on migrations and no other method."""

    def allow_migrate(self, db, app_label, **hints):
        return db == "jobs" if app_label == "windlass" else None


class NoOpinion:
    """A router that leaves everything to the next."""

    def allow_migrate(self, db, app_label, **hints):
        return None


@pytest.mark.parametrize(
    ("router", "expected"), [(MigrationsOnly, []), (NoOpinion, ["E004"])]
)
def test_a_router_that_answers_for_the_app_is_enough(
    use, settings, jobs_database, router, expected
):
    jobs_database()
    use(database_alias="jobs")

    settings.DATABASE_ROUTERS = [router()]

    assert ids() == expected


def test_a_selector_outside_the_allow_list_would_never_find_a_job(use):
    use(QUEUES=["mail"], workers=[{"queues": "mail, rep*"}, {"queues": "*"}])

    (message,) = check_backend("default")

    assert message.id == "windlass.E005"
    assert '"rep*" of workers[0]' in message.msg


def test_an_allow_list_that_is_left_out_holds_only_the_default_queue(settings):
    options = {"workers": [{"queues": "mail"}]}
    settings.TASKS = {"default": {"BACKEND": BACKEND, "OPTIONS": options}}

    assert ids() == ["E005", "W001"]


def test_a_queue_that_no_worker_serves_is_a_warning(use):
    use(QUEUES=["mail", "reports"], workers={"queues": ["ma*"]})

    (message,) = check_backend("default")

    assert message.id == "windlass.W001"
    assert '"reports"' in message.msg


@pytest.mark.parametrize("selector", ["*", "rep*", "reports"])
def test_a_queue_is_served_by_its_name_a_prefix_or_a_star(use, selector):
    use(QUEUES=["reports"], workers={"queues": selector})

    assert ids() == []


def test_notifications_need_postgresql(use, jobs_database):
    jobs_database("sqlite3")

    use(database_alias="jobs", wakeup="notify")

    assert ids() == ["E006"]


@pytest.mark.parametrize(("version_3", "expected"), [(True, []), (False, ["W004"])])
def test_notifications_need_psycopg_3(
    use, jobs_database, monkeypatch, version_3, expected
):
    psycopg_any = pytest.importorskip("django.db.backends.postgresql.psycopg_any")
    monkeypatch.setattr(psycopg_any, "is_psycopg3", version_3)
    jobs_database("postgresql")

    use(database_alias="jobs", wakeup="notify")

    assert ids() == expected


@pytest.mark.parametrize(("is_there", "expected"), [(True, []), (False, ["E007"])])
def test_redis_needs_its_package(use, monkeypatch, is_there, expected):
    monkeypatch.setattr(checks, "find_spec", lambda name: is_there or None)

    use(wakeup="redis", redis_url="redis://localhost:6379/3")

    assert ids() == expected


def test_many_processes_on_sqlite_are_a_warning(use, jobs_database):
    jobs_database("sqlite3")
    use(database_alias="jobs", workers={"processes": 2})
    assert ids() == ["W002"]

    use(database_alias="jobs", workers={"threads": 20})
    assert ids() == []


def test_many_processes_in_mode_async_are_a_warning(use):
    use(mode="async", workers={"processes": 2})
    assert ids() == ["W003"]

    use(mode="async")
    assert ids() == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, ["W005"]), ({"transaction_mode": "immediate"}, [])],
)
def test_sqlite_without_immediate_transactions_is_told_before_a_deployment(
    use, jobs_database, options, expected
):
    jobs_database("sqlite3", **options)

    use(database_alias="jobs")

    assert ids() == []
    assert ids(check_deployment()) == expected


def test_a_deployment_check_leaves_wrong_settings_to_the_other_one(use):
    use(colour="red")

    assert check_deployment() == []


def test_the_deployment_check_runs_with_deploy_only():
    assert check_deployment in registry.get_checks(include_deployment_checks=True)
    assert check_deployment not in registry.get_checks()


def test_a_message_names_its_alias_and_can_be_silenced(use, settings):
    use(mode="async", workers={"processes": 2})
    settings.SILENCED_SYSTEM_CHECKS = ["windlass.W003"]

    (message,) = check_backend("default")

    assert isinstance(message, Warning)
    assert message.obj == 'TASKS["default"]'
    assert message.is_silenced()


def test_the_page_explains_each_id_once():
    sources = inspect.getsource(checks) + inspect.getsource(checks_jobs)
    said = re.findall(r'"(windlass\.[EW]\d{3})"', sources)
    explained = re.findall(r"^\| `(windlass\.[EW]\d{3})` \|", PAGE.read_text(), re.M)

    assert sorted(explained) == sorted(set(said))
