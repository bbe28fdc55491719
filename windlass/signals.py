"""
What Windlass announces beside Django's own task signals.

Each is sent robustly, after the move is stored; a receiver that raises is logged
by Django and breaks nothing. The sender is the backend class, and ``task_result``
is the job's result.
"""

import logging

from django.dispatch import Signal

from windlass import tasks_api

# An attempt failed and another one will follow.
job_retried = Signal()
# A task put itself off; the attempt does not count.
job_snoozed = Signal()
# The node that ran a job is gone; ``task_result`` tells what became of the job.
job_rescued = Signal()
# A job was thrown away: it came too late to start.
job_discarded = Signal()
# A job was cancelled, by someone or by its own task.
job_cancelled = Signal()

# Django connects one receiver of its own to each of its signals: a log line.
_LOG_LINES = {
    id(tasks_api.task_enqueued): (tasks_api.log_task_enqueued, logging.DEBUG),
    id(tasks_api.task_started): (tasks_api.log_task_started, logging.INFO),
    id(tasks_api.task_finished): (tasks_api.log_task_finished, logging.INFO),
}
_logger = logging.getLogger(tasks_api.LOGGER_NAME)


def heard(signal: Signal) -> bool:
    """
    Whether sending one of Django's task signals for a job that did not fail would
    have any effect: False if only the log listens, at a level that is switched off.
    """
    receivers = signal.receivers
    if len(receivers) != 1:
        return bool(receivers)
    log_line, level = _LOG_LINES[id(signal)]
    # A receiver is known by the id of its function and of its sender.
    return receivers[0][0][0] != id(log_line) or _logger.isEnabledFor(level)
