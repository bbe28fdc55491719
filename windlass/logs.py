"""
The runtime's log lines as events: a name and fields, beside the sentence.

Every line that Windlass logs is in EVENTS, by its text before the values are put in. So
whoever collects logs can ask for an event instead of searching in sentences, and
the sentences may change. The lines about tasks are Django's own.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any, NamedTuple


class Event(NamedTuple):
    """The name of an event, and what the values of its line are, in their order."""

    name: str
    fields: tuple[str, ...] = ()


EVENTS = {
    "Stopping: what has started may end first.": Event("runtime.stopping"),
    "Stopping now: what still runs is handed back.": Event("runtime.stopping_now"),
    "Some processes did not end in time and are killed.": Event("runtime.killing"),
    "%s (process %s) %s; replacing it.": Event("part.replaced", ("part", "pid", "how")),
    "%s: stopping, because %s.": Event("part.stopping", ("part", "why")),
    "%s ended with an error.": Event("part.failed", ("part",)),
    "Process %s ended with an error.": Event("part.failed", ("pid",)),
    "%s (process %s) is killed: a job in it ran past its timeout, and its code does "
    "not end.": Event("part.killed", ("part", "pid")),
    "%s: this tick failed.": Event("service.failed", ("service",)),
    "The watch over running jobs failed; it goes on.": Event("watch.failed"),
    "%s: the heartbeat failed.": Event("heartbeat.failed", ("part",)),
    "%s: could not sign off (%s).": Event("node.not_signed_off", ("part", "error")),
    "%s is gone; %s of its jobs were recovered.": Event(
        "node.recovered", ("node", "jobs")
    ),
    "%s: the database %r does not answer (%s). Trying again until it does.": Event(
        "database.lost", ("part", "database", "error")
    ),
    "%s: the database answers again, %.1f s later.": Event(
        "database.returned", ("part", "seconds")
    ),
    "%s: closing a broken connection: %s": Event(
        "database.connection_closed", ("part", "error")
    ),
    "%s: the database %r is behind a transaction pooler, so new jobs are found by "
    "polling. Set wakeup to poll, or connect to the server itself.": Event(
        "database.pooled", ("part", "database")
    ),
    "Redis does not answer (%s). New jobs are found by polling until it does.": Event(
        "redis.lost", ("error",)
    ),
    "Redis answers again.": Event("redis.returned", ()),
    "Closing a connection to Redis: %s": Event("redis.connection_closed", ("error",)),
    "The ends of %s jobs were not told: %s": Event("ends.not_told", ("jobs", "error")),
    "The watcher of jobs failed and looks again.": Event("waiting.failed", ()),
    "Who waits for jobs looks again: %s": Event("waiting.looks_again", ("error",)),
    "Job %s: claim %s was taken over meanwhile, so this report of it was "
    "refused.": Event("job.report_refused", ("job_id", "claim")),
    "Job %s: its outcome cannot be stored.": Event("job.not_stored", ("job_id",)),
    "Job %s: a receiver of its end failed.": Event("job.receiver_failed", ("job_id",)),
    "Job %s: a receiver tried to end the process.": Event(
        "job.receiver_failed", ("job_id",)
    ),
    "Job %s: who attends it failed.": Event("job.attendant_failed", ("job_id",)),
    "A process was deleted while it ran; its log goes with it.": Event("process.gone"),
    "The log of a process waits for its database: %s": Event(
        "process.log_waits", ("error",)
    ),
    "Ends of %s cannot be looked for: %s": Event(
        "process.not_settled", ("model", "error")
    ),
    "Who follows a log looks for itself: %s": Event("following.looks", ("error",)),
    "Who follows a log is not woken any more.": Event("following.failed", ()),
    "The log of %s cannot be kept within LOG_LIMIT: %s": Event(
        "process.log_not_capped", ("log", "error")
    ),
    "The log of a process cannot be stored any more.": Event("process.log_failed"),
    "Something is still mounted in %s, so it stays.": Event(
        "process.sandbox_stays", ("path",)
    ),
    "The log of a process cannot be read any more.": Event("process.log_failed"),
    "No sweep of processes was asked for: %s": Event("celery.no_sweep", ("error",)),
    "%s: its cancel is seen later. %s": Event(
        "celery.cancel_not_told", ("run", "error")
    ),
    "%s has no beat: %s": Event("celery.no_beat", ("run", "error")),
    "%s was ended: its row is not this run's.": Event("celery.run_lost", ("run",)),
    "Job %s: its backoff %r failed; the default is used instead.": Event(
        "job.backoff_failed", ("job_id", "backoff")
    ),
    "Job %s: its %s failed.": Event("job.hook_failed", ("job_id", "hook")),
    "Job %s: what a step has made of its workspace cannot be stored.": Event(
        "job.workspace_not_stored", ("job_id",)
    ),
    "Job %s: no process for it: %s": Event("job.no_process", ("job_id", "error")),
    "%s: job %s does not end although it was told to, so its process will. The others "
    "in it may end first.": Event("job.does_not_end", ("part", "job_id")),
    "What follows the end of %s jobs failed.": Event("workflow.failed", ("jobs",)),
    "A coroutine on the event loop raised %r.": Event("loop.error", ("error",)),
    "The schedule %r of the settings: %s": Event(
        "schedule.not_stored", ("schedule", "error")
    ),
    "The schedule %r cannot be fired; trying again in %d s: %s": Event(
        "schedule.not_fired", ("schedule", "seconds", "error")
    ),
    "%s.tasks cannot be imported.": Event("app.not_imported", ("app",)),
    "The liveness file cannot be written: %s.": Event("liveness.failed", ("error",)),
    "supervisor_pidfile %s: replacing a stale file (process %s).": Event(
        "pidfile.replaced", ("path", "pid")
    ),
    "on_thread_error (%s) failed; the runtime goes on.": Event(
        "hook.failed", ("on_thread_error",)
    ),
    "%s: a hook for %s.%s failed; the runtime goes on.": Event(
        "hook.failed", ("part", "kind", "moment")
    ),
    "windlass_doctor: the check %s failed.": Event("doctor.failed", ("check",)),
}


def name_events(record: logging.LogRecord) -> bool:
    """Give a record of the runtime its event, and each value its name; keep it."""
    event = EVENTS.get(record.msg) if isinstance(record.msg, str) else None
    if event is not None:
        values = record.args if isinstance(record.args, tuple) else (record.args,)
        record.event = event.name
        for name, value in zip(event.fields, values, strict=False):
            setattr(record, name, value)
    return True


class JSONFormatter(logging.Formatter):
    """
    One line of JSON for each record: time, level, logger, process, message, event.

    The fields of an event follow by their names, as text where JSON has nothing for
    them; an exception as ``traceback``. For handlers of any logger.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        said: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        if name := getattr(record, "event", None):
            said["event"] = name
            event = EVENTS.get(record.msg)
            for field in event.fields if event else ():
                said[field] = getattr(record, field, None)
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return json.dumps(said, default=str)
