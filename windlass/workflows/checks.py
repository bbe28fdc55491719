"""System checks: the tables of workflows stand beside those of the jobs."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Error, register
from django.db import router

from windlass import conf
from windlass.exceptions import ConfigurationError
from windlass.workflows.models import WorkflowRun


@register()
def check_tables(**kwargs: Any) -> list[CheckMessage]:
    """Return each database of a backend to which no router sends our tables."""
    try:
        databases = {conf.options(alias).database_alias for alias in conf.aliases()}
    except ConfigurationError:
        # The backend's own check reports it.
        return []
    return [
        Error(
            f'Jobs are stored on the database "{database}", and the routers keep the '
            "tables of windlass.workflows from it.",
            hint='Let the router of the app label "windlass" answer for '
            '"windlass_workflows" as well, and run "manage.py migrate --database '
            f'{database}".',
            obj="DATABASE_ROUTERS",
            id="windlass.workflows.E001",
        )
        for database in sorted(databases)
        if not router.allow_migrate_model(database, WorkflowRun)
    ]
