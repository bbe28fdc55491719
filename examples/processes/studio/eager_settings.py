"""The example without a worker: `start()` runs the process, in a database in memory."""

from studio.settings import *  # noqa: F403

DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
WINDLASS_PROCESSES = {"BACKEND": "windlass.processes.backends.eager.EagerBackend"}
