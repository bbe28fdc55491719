"""
Hooks: what a project wants done when a part of the runtime starts, stops or ends.

``start`` is called before the part does anything, ``stop`` when it was asked to stop
(or has nothing left to do), ``exit`` last. Each is called in the part's own process,
in the order of registration, with a Part. One that raises is logged and told to
``on_thread_error``; the next are called, and the runtime goes on.

Register in a module that every process imports: ``tasks.py``, or ``ready()`` of an app.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, TypeVar

from windlass.exceptions import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of the runtime, as hooks see it."""

    kind: str
    name: str
    backend: str
    pid: int
    metadata: Mapping[str, Any] = field(default_factory=dict)


Hook = TypeVar("Hook", bound=Callable[[Part], object])

KINDS = ("supervisor", "worker", "dispatcher", "scheduler")
EVENTS = ("start", "stop", "exit")
_registered: dict[str, list[Callable[[Part], object]]] = {
    f"{kind}.{event}": [] for kind in KINDS for event in EVENTS
}


def register_hook(name: str) -> Callable[[Hook], Hook]:
    """Make a decorator that registers a hook by name, such as "worker.start"."""
    if name not in _registered:
        nearest = get_close_matches(str(name), _registered, n=1)
        advice = (
            f'did you mean "{nearest[0]}"?'
            if nearest
            else f"the names are {', '.join(_registered)}."
        )
        raise ConfigurationError(f"register_hook({name!r}): no such hook; {advice}")

    def register(hook: Hook) -> Hook:
        if not callable(hook):
            raise ConfigurationError(
                f"The hook {name!r} must be callable, not {hook!r}; nothing was "
                "registered."
            )
        _registered[name].append(hook)
        return hook

    return register


def registered(kind: str, event: str) -> tuple[Callable[[Part], object], ...]:
    """Return the hooks of an event, in the order of their registration."""
    return tuple(_registered[f"{kind}.{event}"])


on_start = register_hook("supervisor.start")
on_stop = register_hook("supervisor.stop")
on_exit = register_hook("supervisor.exit")
on_worker_start = register_hook("worker.start")
on_worker_stop = register_hook("worker.stop")
on_worker_exit = register_hook("worker.exit")
on_dispatcher_start = register_hook("dispatcher.start")
on_dispatcher_stop = register_hook("dispatcher.stop")
on_dispatcher_exit = register_hook("dispatcher.exit")
on_scheduler_start = register_hook("scheduler.start")
on_scheduler_stop = register_hook("scheduler.stop")
on_scheduler_exit = register_hook("scheduler.exit")
