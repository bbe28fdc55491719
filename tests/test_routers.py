"""The router: which database holds the tables of Windlass."""

from types import SimpleNamespace

import pytest
from django.db import router

from windlass.routers import WindlassRouter

BACKEND = "windlass.backend.WindlassBackend"
IMMEDIATE = "windlass.tasks_api.ImmediateBackend"


class Ours:
    """As much of a Windlass model as a router looks at."""

    _meta = SimpleNamespace(app_label="windlass")


class Theirs:
    """A model of some other app."""

    _meta = SimpleNamespace(app_label="shop")


@pytest.fixture(autouse=True)
def databases(settings, monkeypatch):
    # Not by assignment: Django warns of that, because open connections stay.
    for name in ("jobs", "mail"):
        database = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
        monkeypatch.setitem(settings.DATABASES, name, database)


@pytest.fixture
def use(settings):
    def tasks(**databases):
        settings.TASKS = {
            alias: {"BACKEND": BACKEND, "OPTIONS": {"database_alias": database}}
            for alias, database in databases.items()
        }

    return tasks


def instance_on(database):
    return SimpleNamespace(_state=SimpleNamespace(db=database))


def test_our_models_live_on_the_database_of_the_backend(use):
    use(default="jobs")

    assert WindlassRouter().db_for_read(Ours) == "jobs"
    assert WindlassRouter().db_for_write(Ours) == "jobs"


def test_models_of_others_are_none_of_our_business(use):
    use(default="jobs")

    assert WindlassRouter().db_for_read(Theirs) is None
    assert WindlassRouter().db_for_write(Theirs) is None
    assert WindlassRouter().allow_migrate("jobs", "shop") is None


def test_our_tables_are_created_where_a_backend_uses_them_and_nowhere_else(use):
    use(default="jobs", mail="mail")

    assert WindlassRouter().allow_migrate("jobs", "windlass", model_name="job") is True
    assert WindlassRouter().allow_migrate("mail", "windlass") is True
    assert WindlassRouter().allow_migrate("default", "windlass") is False


def test_of_several_backends_the_default_one_decides(use):
    use(mail="mail", default="jobs")

    assert WindlassRouter().db_for_write(Ours) == "jobs"


def test_without_a_default_backend_of_ours_the_first_one_decides(use):
    use(mail="mail", reports="jobs")

    assert WindlassRouter().db_for_write(Ours) == "mail"


def test_an_object_stays_on_the_database_it_came_from(use):
    use(default="jobs", mail="mail")

    assert WindlassRouter().db_for_write(Ours, instance=instance_on("mail")) == "mail"
    assert WindlassRouter().db_for_read(Ours, instance=instance_on("mail")) == "mail"


@pytest.mark.parametrize("elsewhere", [instance_on("default"), instance_on(None)])
def test_an_object_from_a_database_without_our_tables_says_nothing(use, elsewhere):
    use(default="jobs", mail="mail")

    assert WindlassRouter().db_for_read(Ours, instance=elsewhere) == "jobs"


def test_the_answer_follows_the_settings(use):
    use(default="jobs")
    assert WindlassRouter().db_for_write(Ours) == "jobs"

    use(default="mail")

    assert WindlassRouter().db_for_write(Ours) == "mail"


def test_a_project_that_uses_another_backend_keeps_its_own_routing(settings):
    settings.TASKS = {"default": {"BACKEND": IMMEDIATE}}

    assert WindlassRouter().db_for_write(Ours) is None
    assert WindlassRouter().allow_migrate("default", "windlass") is None


def test_django_asks_the_router_that_the_settings_name(use, settings):
    use(default="jobs")

    settings.DATABASE_ROUTERS = ["windlass.routers.WindlassRouter"]

    assert router.db_for_write(Ours) == "jobs"
    assert not router.allow_migrate("default", "windlass")
