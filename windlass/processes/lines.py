"""
A line of a process's log, before it has a number, and where it is to be stored.

What a line says is cleaned here: no database takes a NUL, and one line must not fill a
page.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from windlass.exceptions import ConfigurationError

if TYPE_CHECKING:
    from windlass.processes.log_models import BaseProcessLog
    from windlass.processes.models import BaseProcess

LEVELS = ("debug", "info", "warning", "error")
# Where a line comes from: self.log, Python's logging, output, whoever supervises.
LOG, RECORD, STDOUT, STDERR, SYSTEM = "log", "logging", "stdout", "stderr", "system"
LEVEL_OF_OUTPUT = {STDOUT: "info", STDERR: "warning"}
# Characters of one line that are kept.
MOST = 16_384
CUT = " … ({:,} more characters)"


class Line(NamedTuple):
    """One line, as it is said: when (epoch seconds), how loud, from where."""

    created: float
    level: str
    stream: str
    message: str


def line(message: object, *, level: str = "info", stream: str = LOG) -> Line:
    """Make a line now; ValueError for a level that there is not."""
    if level not in LEVELS:
        raise ValueError(f"level must be one of {', '.join(LEVELS)}, not {level!r}.")
    text = message if isinstance(message, str) else str(message)
    return Line(time.time(), level, stream, clean(text))


def clean(text: str) -> str:
    """The text as every database can store it, at its longest."""
    if len(text) > MOST:
        text = text[:MOST] + CUT.format(len(text) - MOST)
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode()
    return text.replace("\0", "\N{SYMBOL FOR NULL}") if "\0" in text else text


def level_of(number: int) -> str:
    """The level that a number of Python's logging comes to."""
    if number < logging.INFO:
        return "debug"
    if number < logging.WARNING:
        return "info"
    return "warning" if number < logging.ERROR else "error"


class Target(NamedTuple):
    """Whose log it is: the model of its lines, and how they name the process."""

    model: type[BaseProcessLog]
    database: str
    process_id: Any
    attempt: int
    # What the process is called, whichever of its tables somebody has it from.
    name: str


def log_model(cls: type[BaseProcess]) -> type[BaseProcessLog]:
    """The model of a process's log lines; ConfigurationError if there is none."""
    from windlass.processes.log_models import BaseProcessLog

    for relation in cls._meta.related_objects:
        model = relation.related_model
        if relation.field.name == "process" and issubclass(model, BaseProcessLog):
            return model
    raise ConfigurationError(
        f"{cls._meta.label} has no model for its log. Declare one: class "
        f"{cls.__name__}Log(BaseProcessLog) with process = "
        f'models.ForeignKey({cls.__name__}, models.CASCADE, related_name="logs").'
    )


def target_of(process: BaseProcess) -> Target:
    """Where the lines of a process go."""
    model: Any = log_model(type(process))
    named = model._meta.get_field("process").target_field.attname
    database = process._windlass_database()
    own_id = getattr(process, named)
    return Target(model, database, own_id, process.attempts, name_of(process))


def name_of(process: BaseProcess) -> str:
    """What a process is called by all who are on its database."""
    owner = process._meta.get_field("status").model
    return f"{owner._meta.label}/{getattr(process, owner._meta.pk.attname)}"
