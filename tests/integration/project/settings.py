"""
Settings of the runtime under test: those of the suite, on the suite's database.

What differs from test to test comes by environment variables, so that the processes
are started as an operator would start them.
"""

import json
import os

from tests.integration.project.jobs import JOBS  # noqa: F401
from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS, TASKS

environ = os.environ

if "WINDLASS_TEST_NAME" in environ:
    DATABASES["default"]["NAME"] = environ["WINDLASS_TEST_NAME"]
if "WINDLASS_TEST_SERVER" in environ:
    DATABASES["default"].update(json.loads(environ["WINDLASS_TEST_SERVER"]))
if "WINDLASS_TEST_OTHER" in environ:
    DATABASES["other"] = json.loads(environ["WINDLASS_TEST_OTHER"])

INSTALLED_APPS = [*INSTALLED_APPS, "tests.integration.project"]
INSTALLED_APPS += filter(None, environ.get("WINDLASS_TEST_APPS", "").split(","))
TASKS["default"]["OPTIONS"] = json.loads(environ.get("WINDLASS_TEST_OPTIONS", "{}"))
DEBUG = environ.get("WINDLASS_TEST_DEBUG") == "1"
if environ.get("WINDLASS_TEST_LOG_SQL") == "1":
    LOGGING = {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"all": {"class": "logging.StreamHandler"}},
        "loggers": {"django.db.backends": {"handlers": ["all"], "level": "DEBUG"}},
    }
WINDLASS_PROCESSES = json.loads(environ.get("WINDLASS_TEST_PROCESSES", "{}"))
