"""Settings of Celery's workers: the suite's processes, and the broker that is said."""

import json
import os

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES

environ = os.environ

DATABASES["default"]["NAME"] = environ["WINDLASS_TEST_NAME"]
# Nothing but processes, and no worker of Windlass's own.
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "windlass",
    "windlass.processes",
    "windlass.contrib.celery",
    "tests.processes",
]
TASKS = {}
ROOT_URLCONF = "windlass.processes.urls"
WINDLASS_PROCESSES = json.loads(environ["WINDLASS_TEST_PROCESSES"])
for name, value in json.loads(environ["WINDLASS_TEST_CELERY"]).items():
    globals()[f"CELERY_{name.upper()}"] = value
