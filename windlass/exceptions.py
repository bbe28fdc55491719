"""
Everything Windlass raises on purpose, under WindlassError.

Where Django raises a class of its own for the same cause, ours is also that
class, so code written against Django's Tasks API keeps working. The three
Process errors are never raised at a caller: they are recorded as the cause of
work that was lost with the operating-system process that held it.
"""

from django.core.exceptions import ImproperlyConfigured

from windlass.tasks_api import InvalidTask


class WindlassError(Exception):
    """Something Windlass refused or could not do."""


class EnqueueError(WindlassError):
    """The job was refused and nothing was stored."""


class InvalidArguments(EnqueueError, TypeError):
    """The arguments of the call cannot be stored as JSON."""


class RefusedTask(EnqueueError, InvalidTask):
    """The task cannot be run by this backend as it was enqueued."""


class DuplicateJob(EnqueueError):
    """Another job that has not ended holds the unique key."""


class ConfigurationError(WindlassError, ImproperlyConfigured):
    """A setting has a value that Windlass cannot work with."""


class InvalidSchedule(ConfigurationError, ValueError):
    """A schedule was defined in a way that means nothing, so it was not stored."""


class UndiscardableError(WindlassError):
    """The job is running or has succeeded, so it cannot be discarded."""


class StaleJob(WindlassError):
    """The job was moved by someone else while we held it."""


class StepError(WindlassError):
    """A durable step was used in a way that cannot be kept; the job fails at once."""


class StepMismatch(StepError):
    """The code is not the one under which the job recorded its durable steps."""


class JobTimeout(WindlassError, TimeoutError):
    """The attempt ran longer than its timeout allows."""


class JobCancelled(WindlassError):
    """The job was cancelled before it could finish."""


class ProcessExitError(WindlassError):
    """The process that ran the job died."""


class ProcessPrunedError(WindlassError):
    """The node that ran the job stopped its heartbeat."""


class ProcessMissingError(WindlassError):
    """The job was claimed by a node that is not registered."""
