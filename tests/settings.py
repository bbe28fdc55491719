"""
Settings of the test suite; the database is chosen by environment variables.

``WINDLASS_TEST_DATABASE`` is ``sqlite`` (the default), ``postgresql`` or ``mysql``;
``WINDLASS_TEST_PG_*`` and ``WINDLASS_TEST_MYSQL_*`` say where the server is, and
``WINDLASS_TEST_DB_SUFFIX`` keeps runs side by side out of each other's databases.
"""

import os
import tempfile

from django import VERSION

ENGINE = os.environ.get("WINDLASS_TEST_DATABASE", "sqlite")
SUFFIX = os.environ.get("WINDLASS_TEST_DB_SUFFIX", "")
NAME = f"windlass{SUFFIX}"


def _server(prefix, port, user):
    get = os.environ.get
    return {
        "HOST": get(f"WINDLASS_TEST_{prefix}_HOST", "127.0.0.1"),
        "PORT": get(f"WINDLASS_TEST_{prefix}_PORT", port),
        "USER": get(f"WINDLASS_TEST_{prefix}_USER", user),
        "PASSWORD": get(f"WINDLASS_TEST_{prefix}_PASSWORD", ""),
        "NAME": NAME,
    }


if ENGINE == "postgresql":
    DATABASE = {
        "ENGINE": "django.db.backends.postgresql",
        **_server("PG", "5432", "postgres"),
    }
elif ENGINE == "mysql":
    import pymysql

    # Django asks for a version of mysqlclient, whose place PyMySQL takes here.
    pymysql.version_info = (2, 2, 8, "final", 0)
    pymysql.install_as_MySQLdb()
    DATABASE = {
        "ENGINE": "django.db.backends.mysql",
        **_server("MYSQL", "3306", "root"),
    }
else:
    FILE = os.environ.get("WINDLASS_TEST_SQLITE_FILE") or os.path.join(
        tempfile.gettempdir(), f"{NAME}-{os.getpid()}.sqlite3"
    )
    DATABASE = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": FILE,
        # A file, so that threads and processes of a test share it.
        "TEST": {"NAME": FILE},
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
    }

DATABASES = {"default": DATABASE}
USE_TZ = os.environ.get("WINDLASS_TEST_USE_TZ", "1") == "1"
TIME_ZONE = "Europe/Berlin"
SECRET_KEY = "tests"
ROOT_URLCONF = "tests.urls"
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "windlass",
    "windlass.processes",
    "windlass.compat",
    "windlass.workflows",
    "tests",
    "tests.processes",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
TASKS = {
    "default": {
        "BACKEND": "windlass.backend.WindlassBackend",
        "QUEUES": [],
        "OPTIONS": {},
    }
}
# One of the suite's processes has no log on purpose.
SILENCED_SYSTEM_CHECKS = ["windlass.processes.W001"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
BACKPORT = VERSION < (6, 0)
