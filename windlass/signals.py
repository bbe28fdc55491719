"""
What Windlass announces beside Django's own task signals.

Each is sent robustly, after the move is stored; a receiver that raises is logged
by Django and breaks nothing. The sender is the backend class, and ``task_result``
is the job's result.

Django's own receivers write log lines, by default at level INFO, where every handler
drops them: the console's filter wants ``DEBUG``. Building a record and its result only
to drop it costs more than a short job. So they are left out where logging as it is
configured now would show them to no one. Whatever is unusual counts as somebody: other
filters, other kinds of handler, a record factory, a patched ``Logger``.
"""

import logging
from types import FunctionType

from django.conf import settings
from django.dispatch import Signal
from django.utils.log import RequireDebugFalse, RequireDebugTrue

from windlass import tasks_api

# An attempt failed and another one will follow.
job_retried = Signal()
# A step of a multi-step job is done, and the next one is ready.
job_advanced = Signal()
# A task put itself off; the attempt does not count.
job_snoozed = Signal()
# The node that ran a job is gone; ``task_result`` tells what became of the job.
job_rescued = Signal()
# A job was thrown away: by someone, or because it came too late to start.
job_discarded = Signal()
# A job was cancelled, by someone or by its own task.
job_cancelled = Signal()

# Read for every job.
Logger, _handle, _own_names = logging.Logger, logging.Handler.handle, vars(logging)
_logger = logging.getLogger(tasks_api.LOGGER_NAME)
# Django connects one receiver of its own to each of its signals: a log line.
_LOG_LINES = {
    id(tasks_api.task_enqueued): (tasks_api.log_task_enqueued, logging.DEBUG),
    id(tasks_api.task_started): (tasks_api.log_task_started, logging.INFO),
    id(tasks_api.task_finished): (tasks_api.log_task_finished, logging.INFO),
}


def heard(*signals: Signal) -> bool:
    """
    Whether sending one of Django's task signals for a job that did not fail would
    have any effect: False if only the log listens, and would show it to nobody.
    """
    level = 0
    for signal in signals:
        receivers = signal.receivers
        if receivers:
            log_line, its_level = _LOG_LINES[id(signal)]
            # A receiver is known by the id of its function and of its sender.
            if len(receivers) > 1 or receivers[0][0][0] != id(log_line):
                return True
            level = max(level, its_level)
    return level > 0 and is_shown(level)


def is_shown(level: int) -> bool:
    """Whether a line of the task log at this level would reach anybody."""
    logger: logging.Logger | None = _logger
    if not _logger.isEnabledFor(level):
        return False
    if _logger.filters or _is_unusual():
        return True
    shut = RequireDebugFalse if settings.DEBUG else RequireDebugTrue
    alone = True
    while logger is not None:
        for handler in logger.handlers:
            alone = False
            if level >= handler.level:
                for each in handler.filters:
                    if type(each) is shut and type(handler).handle is _handle:
                        break
                else:
                    return True
        logger = logger.parent if logger.propagate else None
    last = logging.lastResort
    return alone and last is not None and level >= last.level


def _is_unusual() -> bool:
    # Tools that collect logs without a handler replace one of these.
    return not (
        type(_logger) is Logger
        and _is_own(Logger.handle)
        and _is_own(Logger.callHandlers)
        and logging.getLogRecordFactory() is logging.LogRecord
    )


def _is_own(method: object) -> bool:
    return type(method) is FunctionType and method.__globals__ is _own_names
