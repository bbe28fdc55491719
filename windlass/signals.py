"""
What Windlass announces beside Django's own task signals.

Each is sent robustly, after the move is stored; a receiver that raises is logged
by Django and breaks nothing. The sender is the backend class, and ``task_result``
is the job's result.
"""

from django.dispatch import Signal

# An attempt failed and another one will follow.
job_retried = Signal()
# A task put itself off; the attempt does not count.
job_snoozed = Signal()
# The node that ran a job is gone; ``task_result`` tells what became of the job.
job_rescued = Signal()
# A job was cancelled, by someone or by its own task.
job_cancelled = Signal()
