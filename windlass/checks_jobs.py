"""System checks of the setting JOBS; what it says is used when a job is created."""

from typing import Any

from django.core.checks import CheckMessage, Error, Warning, register
from django.utils.module_loading import import_string

from windlass import conf_jobs
from windlass.exceptions import ConfigurationError


@register()
def check_jobs(**kwargs: Any) -> list[CheckMessage]:
    """Return what is wrong with JOBS: its form, and paths that lead nowhere."""
    found: list[CheckMessage] = []
    try:
        paths = list(conf_jobs.paths())
    except ConfigurationError as error:
        return [
            Error(
                str(error),
                hint="Correct it where the message says, in the settings.",
                id="windlass.E008",
            )
        ]
    for path, place in paths:
        try:
            import_string(path)
        except ImportError as error:
            # Not an error, which would keep all the others from running.
            found.append(
                Warning(
                    f"{place}: {error}",
                    hint="Correct the path. Until then a job of this name cannot be "
                    "created; the others can.",
                    id="windlass.W007",
                )
            )
    return found
