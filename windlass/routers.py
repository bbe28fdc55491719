"""
Keep the tables of Windlass on the databases that TASKS names for them.

Add "windlass.routers.WindlassRouter" to DATABASE_ROUTERS when a backend has a
database_alias of its own. Several backends may use several databases: each of
them gets the tables. The engine names its database in every query, so the router
decides only for code that does not, such as a page of the admin.
"""

from typing import Any

from django.db.models import Model

from windlass import conf
from windlass.tasks_api import DEFAULT_TASK_BACKEND_ALIAS

APP_LABELS = frozenset({"windlass", "windlass_compat", "windlass_workflows"})


class WindlassRouter:
    """Send Windlass models to the databases of its backends, and nothing else."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        """Return the database of the instance at hand, else of the main backend."""
        databases = _databases()
        if model._meta.app_label not in APP_LABELS or not databases:
            return None
        here = getattr(hints.get("instance"), "_state", None)
        if here is not None and here.db in databases.values():
            return str(here.db)
        first = next(iter(databases.values()))
        return databases.get(DEFAULT_TASK_BACKEND_ALIAS, first)

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        """Allow our tables where a backend uses them, and have no say on others."""
        databases = _databases()
        # Without a backend of ours, as in a test of the project with Django's
        # dummy, the project decides where its installed apps have their tables.
        if app_label not in APP_LABELS or not databases:
            return None
        return db in databases.values()


def _databases() -> dict[str, str]:
    return {alias: conf.options(alias).database_alias for alias in conf.aliases()}
