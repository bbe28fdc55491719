"""
The setting JOBS: multi-step jobs by name, read and checked to the last word.

A name leads to the list of its steps, each the dotted path of a function or a task; or
to a mapping that has the list as ``tasks``, and hooks beside it. Whether the paths lead
anywhere is not asked here: when settings are read, nothing can be imported.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from django.conf import settings

from windlass.conf_values import quoted, wrong
from windlass.exceptions import ConfigurationError

HOOKS = ("creation_hook", "pre_task_hook", "post_task_hook", "failure_hook")
KEYS = ("tasks", *HOOKS)
NAME_LENGTH, PATH_LENGTH = 255, 500


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of a job, and what is called around them: dotted paths."""

    tasks: tuple[str, ...]
    hooks: Mapping[str, str]

    def stored(self) -> dict[str, Any]:
        """As it is kept with a job."""
        return {"tasks": list(self.tasks), "hooks": dict(self.hooks)}


def names() -> list[str]:
    """The names in JOBS; raise ConfigurationError if it is no mapping."""
    return list(_setting())


def plan(name: str) -> Plan | None:
    """What JOBS says of a name, or None; raise ConfigurationError if it is wrong."""
    if name not in names():
        return None
    path, said = f'JOBS["{name}"]', _setting()[name]
    if not isinstance(name, str) or not 0 < len(name) <= NAME_LENGTH:
        raise wrong(path, f"under a name of 1 to {NAME_LENGTH} characters", name)
    if isinstance(said, Mapping):
        _check_keys(path, said)
        tasks, tasks_path = said.get("tasks"), f'{path}["tasks"]'
    else:
        tasks, tasks_path, said = said, path, {}
    if not isinstance(tasks, list | tuple) or not tasks:
        raise wrong(tasks_path, "a list of one or more dotted paths", tasks)
    steps = [_dotted(f"{tasks_path}[{n}]", task) for n, task in enumerate(tasks)]
    hooks = {
        hook: _dotted(f'{path}["{hook}"]', said[hook])
        for hook in HOOKS
        if said.get(hook) is not None
    }
    return Plan(tuple(steps), hooks)


def paths() -> Iterator[tuple[str, str]]:
    """Each dotted path in JOBS, and its place there."""
    for name in names():
        found = plan(name)
        assert found is not None, "it is one of the names"
        for number, task in enumerate(found.tasks):
            yield task, f'JOBS["{name}"], step {number + 1}'
        for hook, path in found.hooks.items():
            yield path, f'JOBS["{name}"]["{hook}"]'


def _setting() -> Mapping[str, Any]:
    jobs = getattr(settings, "JOBS", None)
    if jobs is None:
        return {}
    if not isinstance(jobs, Mapping):
        raise wrong("JOBS", "a dict of names and their steps", jobs)
    return jobs


def _check_keys(path: str, said: Mapping[Any, Any]) -> None:
    for key in said:
        if key not in KEYS:
            near = get_close_matches(str(key), KEYS, 1)
            advice = f'did you mean "{near[0]}"?' if near else f"known: {quoted(KEYS)}"
            raise ConfigurationError(f'{path}: unknown key "{key}"; {advice}')


def _dotted(place: str, path: Any) -> str:
    module, _dot, name = path.rpartition(".") if isinstance(path, str) else ("", "", "")
    if not module or not name.isidentifier() or len(path) > PATH_LENGTH:
        raise wrong(place, "the dotted path of a function", path)
    return str(path)
