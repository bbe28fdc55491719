"""
Functions by name: which plain functions may be jobs, and as what they run.

A name is trusted less than a decorated task. Only a function that is defined in the
module of the name is run, and only of modules that are allowed: those of installed
apps, or what ``OPTIONS["task_modules"]`` says. That is asked when the job is created
and again before it runs. Nothing else is imported because a name says so.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from importlib import import_module
from inspect import isfunction
from typing import Any

from django.apps import apps

from windlass import conf, conf_jobs, tasks_api
from windlass.exceptions import ConfigurationError, RefusedTask

Patterns = Sequence[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedFunction(tasks_api.Task):
    """A plain function as a task: it has what was said when the job was created."""

    # Without a type, or it would be a field.
    by_name = True

    timeout: float | None = None
    max_attempts: int | None = None
    metadata: dict[str, Any] | None = field(default=None, hash=False)


def find(name: Any, allowed: Patterns) -> Any:
    """
    The task or the plain function of a dotted path, or RefusedTask.

    A task may be anywhere as long as its module has been imported or is allowed.
    """
    module_name, _dot, function_name = str(name).rpartition(".")
    if not isinstance(name, str) or not module_name or not function_name.isidentifier():
        raise RefusedTask(
            f"{name!r} is not the dotted path of a function, as shop.tasks.add is. "
            "Nothing was stored."
        )
    is_allowed = _is_allowed(module_name, allowed)
    if not is_allowed and module_name not in sys.modules:
        raise RefusedTask(_advice(name, module_name, "was not imported"))
    found = getattr(_import(name, module_name), function_name, None)
    if isinstance(found, tasks_api.Task):
        return found
    _check_is_defined_there(name, found)
    if not is_allowed:
        raise RefusedTask(_advice(name, module_name, "is not run"))
    return found


def load(name: str) -> Any:
    """The plain function of a stored job, if any backend allows it, or RefusedTask."""
    module_name = name.rpartition(".")[0]
    backends = [conf.options(alias) for alias in conf.aliases()]
    if not any(_is_allowed(module_name, own.task_modules) for own in backends):
        raise RefusedTask(_advice(name, module_name, "is not run"))
    found = getattr(_import(name, module_name), name.rpartition(".")[2], None)
    if isinstance(found, tasks_api.Task):
        return found.func
    _check_is_defined_there(name, found)
    return found


def load_step(path: str) -> Any:
    """
    The task or the plain function of a step, or RefusedTask.

    What ``JOBS`` names is the project's own word. Of a plan that was stored with a job,
    and that JOBS does not know any more, a function must be allowed by its name.
    """
    try:
        is_known = path in {known for known, _place in conf_jobs.paths()}
    except ConfigurationError as error:
        raise RefusedTask(f"{path!r} was not run: {error}") from error
    if not is_known:
        return _find_for_any_backend(path)
    module_name, _dot, name = path.rpartition(".")
    found = getattr(_import(path, module_name), name, None)
    if not isinstance(found, tasks_api.Task) and not isfunction(found):
        _check_is_defined_there(path, found)
    return found


def _find_for_any_backend(path: str) -> Any:
    refusal = RefusedTask(f"There is no task {path!r} to run.")
    for alias in conf.aliases():
        try:
            return find(path, conf.options(alias).task_modules)
        except RefusedTask as error:
            refusal = error
    raise refusal


def _is_allowed(module: str, patterns: Patterns) -> bool:
    if patterns is not None:
        return any(fnmatchcase(module, pattern) for pattern in patterns)
    installed = (app.name for app in apps.get_app_configs())
    return any(module == name or module.startswith(f"{name}.") for name in installed)


def _import(name: str, module: str) -> Any:
    try:
        return import_module(module)
    except BaseException as error:
        # Importing runs the user's module, so anything may be raised here, even an
        # exit; it says that this name leads nowhere.
        raise RefusedTask(
            f"{name!r} leads nowhere: {module} cannot be imported: {error}"
        ) from error


def _check_is_defined_there(name: str, found: Any) -> None:
    module_name, _dot, function_name = name.rpartition(".")
    if not isfunction(found):
        module = sys.modules[module_name]
        there = "no such name" if found is None else f"{found!r} there"
        near = get_close_matches(function_name, vars(module), 1)
        advice = f" Did you mean {near[0]!r}?" if near and found is None else ""
        file = getattr(module, "__file__", "built in")
        raise RefusedTask(
            f"{name!r} is no function: {module_name} ({file}) has {there}.{advice}"
        )
    own = f"{found.__module__}.{found.__qualname__}"
    if own != name:
        raise RefusedTask(
            f"{name!r} is not run: the function is {own}, and by name only what a "
            "module defines itself is run. Name that one, or decorate it with @task."
        )


def _advice(name: str, module: str, what: str) -> str:
    return (
        f"{name!r} {what}: {module} is not a module of an installed app, or not one "
        'that OPTIONS["task_modules"] of the backend names. Decorate the function '
        "with @task and import its module, or add a pattern for the module there."
    )
