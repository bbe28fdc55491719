"""What the contract's tests put in and read back."""

import json
import time
import uuid
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.utils import timezone

from windlass.db import Ended, Lane, NewJob, Returned
from windlass.jobs.ids import uuid7
from windlass.models import EndedJob, Job, LiveJob

# As large as a node's random id gets, and a second one.
NODE, OTHER = 2**63 - 1, 7
DEFAULT = Lane("default", 0)
# One for each way that a text gets into a statement: JSON, COPY, parameters.
UNUSUAL = [
    "tab\tand\x0bmore",
    "line\nand\r\nreturn\r",
    "back\\slash \\n \\t \\\\",
    r"\N",
    r"\.",
    "'single' \"double\" `back` $$dollar$$",
    "rocket 🚀 é 漢字 \u2028",
    "100% %s %(name)s %%",
    "  spaces around  ",
    '{"json": [1]}, null, NULL',
    "control \x01\x1f\x7f",
]


def new(
    *args,
    queue="default",
    priority=0,
    run_after=None,
    path="tests.tasks.add",
    max_attempts=1,
    backend="default",
    metadata=None,
    policy=None,
    kwargs=None,
    id=None,
):
    """A job to store, with its JSON columns given as values."""
    return NewJob(
        id or uuid7(),
        backend,
        queue,
        -priority,
        path,
        json.dumps(args),
        json.dumps(kwargs or {}),
        max_attempts,
        run_after,
        None if metadata is None else json.dumps(metadata),
        None if policy is None else json.dumps(policy),
    )


def several(count, **columns):
    """Jobs whose argument is their place."""
    return [new(place, **columns) for place in range(count)]


def places(jobs):
    """The first argument of each claimed job."""
    return [json.loads(job.args)[0] for job in jobs]


def take(dialect, limit=1, *lanes, node=NODE):
    """Claim from these lanes, or from the default one."""
    return dialect.claim(node, "default", lanes or [DEFAULT], limit)


def take_new(dialect, count=1, **columns):
    """Store jobs and claim them."""
    dialect.insert_many(several(count, **columns))
    jobs = take(dialect, count)
    assert len(jobs) == count
    return jobs


def end(job, state="succeeded", reason="", value=None, **columns):
    """The end of a claimed job, now."""
    now = time.time()
    text = None if value is None else json.dumps(value)
    columns = {"return_value": text, "history": None, **columns}
    times = {"started_at": now - 0.5, "finished_at": now}
    return Ended(job.id, job.claim, state, reason, **{**times, **columns})


def back(job, delay=0.0, **columns):
    """A claimed job on its way back to waiting."""
    return Returned(job.id, job.claim, delay, **{"history": None, **columns})


def live(job):
    """The live row of a job, or None."""
    return LiveJob.objects.filter(pk=job.id).first()


def ended(job):
    """The ended row of a job, or None."""
    return EndedJob.objects.filter(pk=job.id).first()


def state(job):
    """The state of a job that exists exactly once."""
    return Job.objects.values_list("state", flat=True).get(pk=job.id)


def states():
    """How many jobs are in each state."""
    found = {}
    for state in Job.objects.values_list("state", flat=True):
        found[state] = found.get(state, 0) + 1
    return found


def is_null(model, column, job):
    """Whether a column holds SQL's NULL, not JSON's."""
    return model.objects.filter(pk=job.id).extra(where=[f"{column} IS NULL"]).exists()


def hours(count):
    """A moment so many hours from now, as this project has times."""
    return timezone.now() + timedelta(hours=count)


def moment(text):
    """A moment given in UTC, as this project has times."""
    aware = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return aware if settings.USE_TZ else timezone.make_naive(aware)


def is_id(text):
    """Whether a text is an id as the engine spells it."""
    return str(uuid.UUID(text)) == text
