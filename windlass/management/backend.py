"""Which backend a command is about, and whether its database has the tables."""

from __future__ import annotations

from django.db import connections
from django.db.migrations.executor import MigrationExecutor

from windlass import conf
from windlass.exceptions import ConfigurationError


def options_of(alias: str | None) -> conf.Options:
    """The options of the backend that ``--backend`` names, or of the first."""
    aliases = conf.aliases()
    chosen = alias or next(iter(aliases), None)
    if chosen not in aliases:
        served = ", ".join(aliases) or "none"
        raise ConfigurationError(
            f"--backend {chosen}: TASKS has no such Windlass backend. It has: {served}."
        )
    return conf.options(chosen)


def lacks(database: str) -> str | None:
    """Say which migrations a database lacks, and what to do; None if it has all."""
    executor = MigrationExecutor(connections[database])
    targets = [n for n in executor.loader.graph.leaf_nodes() if n[0] == "windlass"]
    missing = [str(step) for step, _back in executor.migration_plan(targets)]
    if not missing:
        return None
    return (
        f"The database {database!r} lacks: {', '.join(missing)}. "
        "Run: python manage.py migrate"
    )
