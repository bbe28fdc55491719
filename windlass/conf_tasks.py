"""
The setting TASKS as it is written: which aliases there are, and which are ours.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from windlass.conf_values import quoted
from windlass.exceptions import ConfigurationError


@cache
def aliases() -> tuple[str, ...]:
    """Return the aliases in TASKS that Windlass serves, in their order."""
    return tuple(alias for alias, entry in _tasks().items() if _is_windlass(entry))


def params(alias: str) -> Any:
    """Return the raw entry of an alias in TASKS."""
    tasks = _tasks()
    if alias not in tasks:
        known = quoted(tasks) or "no alias"
        raise ConfigurationError(f'TASKS has {known}, and no "{alias}"')
    return tasks[alias]


def _tasks() -> Mapping[str, Any]:
    # Django 5.2 knows no TASKS, so a project without the setting has no attribute.
    return getattr(settings, "TASKS", None) or {}


def _is_windlass(entry: Any) -> bool:
    try:
        backend = import_string(entry["BACKEND"])
    except (ImportError, KeyError, TypeError):
        # Django reports a backend that cannot be imported; it is not ours to say.
        return False
    # The class tells by itself, because this layer may not import the backend.
    return bool(getattr(backend, "is_windlass", False))
