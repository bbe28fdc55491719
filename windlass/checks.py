"""
System checks: what can be known to be wrong before the first job is enqueued.

An error is a configuration that cannot do what it says; a warning is one that
works and will disappoint. Each says what, where and what to do. The checks read
settings only and open no connection, because they run before every command.

docs/reference/checks.md explains each id.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error, Warning, register
from django.db import connections, router
from django.utils.module_loading import import_string

from windlass import conf
from windlass.conf import Options
from windlass.exceptions import ConfigurationError
from windlass.tasks_api import Task


def check_backend(alias: str) -> list[CheckMessage]:
    """Return what is wrong with one backend alias."""
    if not apps.is_installed("windlass"):
        return [_not_installed(alias)]
    try:
        # As it was written: options() has already settled what cannot be.
        configured = conf.written(alias)
    except ConfigurationError as error:
        return [_misconfigured(str(error))]
    return [message for rule in RULES for message in rule(configured)]


@register(deploy=True)
def check_deployment(**kwargs: Any) -> list[CheckMessage]:
    """Return what is right for trying Windlass out and wrong for relying on it."""
    try:
        databases = {conf.options(alias).database_alias for alias in conf.aliases()}
    except ConfigurationError:
        # check_backend reports it, with the alias it belongs to.
        return []
    return [
        message
        for database in sorted(databases)
        for message in _sqlite_upgrades_its_locks(database)
    ]


def _not_installed(alias: str) -> CheckMessage:
    return Error(
        "The backend of Windlass is used, but its app is not installed.",
        hint='Add "windlass" to INSTALLED_APPS and run "manage.py migrate".',
        obj=_place(alias),
        id="windlass.E001",
    )


def _misconfigured(text: str) -> CheckMessage:
    return Error(
        text,
        hint="Correct it where the message says: the settings, a file or a variable.",
        id="windlass.E002",
    )


def _callable_cannot_be_imported(options: Options) -> Iterator[CheckMessage]:
    # Not when the settings are read: the module may need the models, which are
    # not loaded then.
    entry = _place(options.alias)
    for place, path in (
        (f'{entry}["BACKOFF"]', options.backoff),
        (f'{entry}["OPTIONS"]["on_thread_error"]', options.on_thread_error),
    ):
        if not isinstance(path, str):
            continue
        try:
            found = import_string(path)
        except ImportError as error:
            yield _misconfigured(f"{place}: {error}")
            continue
        if not callable(found):
            yield _misconfigured(f"{place} must name a callable, not {found!r}")


def _heartbeat_is_too_slow(options: Options) -> Iterator[CheckMessage]:
    least = 3 * options.process_heartbeat_interval
    if options.process_alive_threshold >= least:
        return
    yield Error(
        f"A node is given up after {options.process_alive_threshold:g} seconds "
        f"without a heartbeat, and sends one each "
        f"{options.process_heartbeat_interval:g} seconds: one late heartbeat would "
        "give its running jobs to others.",
        hint=f"Set process_alive_threshold to at least {least:g}.",
        obj=_place(options.alias),
        id="windlass.E003",
    )


def _database_is_not_routed(options: Options) -> Iterator[CheckMessage]:
    database = options.database_alias
    if database == "default" or any(_routes(r, database) for r in router.routers):
        return
    yield Error(
        f'The database "{database}" is used, but no router sends the models of '
        "Windlass there.",
        hint='Add "windlass.routers.WindlassRouter" to DATABASE_ROUTERS and run '
        f'"manage.py migrate --database {database}".',
        obj=_place(options.alias),
        id="windlass.E004",
    )


def _routes(candidate: Any, database: str) -> bool:
    # A router may leave out any method, and may answer for writes alone.
    migrates = getattr(candidate, "allow_migrate", lambda *args: None)
    writes_to = getattr(candidate, "db_for_write", lambda model: None)
    models = apps.get_app_config("windlass").get_models()
    return migrates(database, "windlass") is True or any(
        writes_to(model) == database for model in models
    )


def _selector_matches_nothing(options: Options) -> Iterator[CheckMessage]:
    for index, worker in enumerate(options.workers):
        for selector in worker.queues:
            if not options.queues or _served(options.queues, [selector]):
                continue
            yield Error(
                f'The selector "{selector}" of workers[{index}] matches none of the '
                f"queues that jobs may have: {', '.join(options.queues)}.",
                hint='Add the queue to QUEUES, or allow all queues with "QUEUES": [].',
                obj=_place(options.alias),
                id="windlass.E005",
            )


def _queue_is_not_served(options: Options) -> Iterator[CheckMessage]:
    selectors = [name for worker in options.workers for name in worker.queues]
    for queue in options.queues:
        if _served([queue], selectors):
            continue
        yield Warning(
            f'Jobs may be enqueued on the queue "{queue}", but no worker serves it.',
            hint=f'Add "{queue}" to the queues of a worker in OPTIONS, or silence '
            "this check if workers elsewhere serve it.",
            obj=_place(options.alias),
            id="windlass.W001",
        )


def _served(queues: Any, selectors: Any) -> bool:
    return any(
        queue.startswith(selector[:-1]) if selector[-1] == "*" else queue == selector
        for queue in queues
        for selector in selectors
    )


def _notify_needs_postgresql(options: Options) -> Iterator[CheckMessage]:
    if options.wakeup != "notify":
        return
    vendor = connections[options.database_alias].vendor
    if vendor != "postgresql":
        yield Error(
            f'wakeup is "notify", but the database "{options.database_alias}" is '
            f"{vendor}, which has no notifications.",
            hint='Set wakeup to "auto", or to "poll".',
            obj=_place(options.alias),
            id="windlass.E006",
        )
    elif not _has_psycopg_3():
        yield Warning(
            'wakeup is "notify", but that needs psycopg 3; polling is used.',
            hint='Install it with pip install "windlass[postgres]".',
            obj=_place(options.alias),
            id="windlass.W004",
        )


def _redis_needs_its_package(options: Options) -> Iterator[CheckMessage]:
    if options.wakeup == "redis" and find_spec("redis") is None:
        yield Error(
            'wakeup is "redis", but the package redis is not installed.',
            hint='Install it with pip install "windlass[redis]".',
            obj=_place(options.alias),
            id="windlass.E007",
        )


def _has_psycopg_3() -> bool:
    from django.db.backends.postgresql.psycopg_any import is_psycopg3

    return bool(is_psycopg3)


def _sqlite_has_one_writer(options: Options) -> Iterator[CheckMessage]:
    processes = max(worker.processes for worker in options.workers)
    if options.mode != "fork" or processes == 1 or not _is_sqlite(options):
        return
    yield Warning(
        f"{processes} worker processes share a SQLite database, which lets one of "
        "them write at a time.",
        hint='Set "processes" to 1 and raise "threads" instead.',
        obj=_place(options.alias),
        id="windlass.W002",
    )


def _async_has_one_process(options: Options) -> Iterator[CheckMessage]:
    processes = max(worker.processes for worker in options.workers)
    if options.mode != "async" or processes == 1:
        return
    yield Warning(
        f"{processes} processes are asked for, but mode async runs everything in one.",
        hint='Remove "processes", or set mode to "fork".',
        obj=_place(options.alias),
        id="windlass.W003",
    )


def _sqlite_upgrades_its_locks(database: str) -> Iterator[CheckMessage]:
    connection = connections[database]
    mode = connection.settings_dict["OPTIONS"].get("transaction_mode") or ""
    if connection.vendor != "sqlite" or mode.upper() in {"IMMEDIATE", "EXCLUSIVE"}:
        return
    yield Warning(
        "SQLite transactions that read first and write later fail with "
        '"database is locked" when a worker writes in between.',
        hint='Set in its entry of DATABASES: "OPTIONS": '
        '{"transaction_mode": "IMMEDIATE", "timeout": 20}',
        obj=_place(database, "DATABASES"),
        id="windlass.W005",
    )


def _is_sqlite(options: Options) -> bool:
    return connections[options.database_alias].vendor == "sqlite"


def _place(alias: str, setting: str = "TASKS") -> str:
    return f'{setting}["{alias}"]'


def _recurring_task_cannot_be_imported(options: Options) -> Iterator[CheckMessage]:
    # Not an error, which would keep all the others from running.
    for item in options.recurring:
        try:
            found = import_string(item.task_path)
        except ImportError as error:
            said = str(error)
        else:
            if isinstance(found, Task):
                continue
            said = f"{item.task_path!r} is not a task. Decorate it with @task."
        yield Warning(
            f'{_place(options.alias)}["OPTIONS"]["recurring"]["{item.key}"]'
            f'["task_path"]: {said}',
            hint="Correct the path. Until then this schedule fires nothing; the others "
            "do.",
            obj=_place(options.alias),
            id="windlass.W006",
        )


RULES = (
    _callable_cannot_be_imported,
    _heartbeat_is_too_slow,
    _database_is_not_routed,
    _selector_matches_nothing,
    _queue_is_not_served,
    _notify_needs_postgresql,
    _redis_needs_its_package,
    _sqlite_has_one_writer,
    _async_has_one_process,
    _recurring_task_cannot_be_imported,
)
