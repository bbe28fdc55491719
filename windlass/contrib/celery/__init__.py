"""
Celery runs processes: for those who already have its workers, on many machines.

Add ``windlass.contrib.celery`` to ``INSTALLED_APPS`` and name the backend in
``WINDLASS_PROCESSES``. One queue runs processes, another watches them. The messages of
``sending`` go to the ``tasks``; ``supervising`` is what happens beside a run, in the
worker that has it, and ``watching`` what is left when that worker is gone.
"""

from typing import Any

__all__ = ["BrokerAway", "CeleryBackend"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"{__name__} has no attribute {name!r}")
    try:
        from windlass.contrib.celery import backend
    except ModuleNotFoundError as error:
        if error.name not in ("celery", "kombu"):
            raise
        raise ImportError(
            "Celery is not installed. Install it together with Windlass: "
            "pip install 'windlass[celery]'."
        ) from error
    return getattr(backend, name)
