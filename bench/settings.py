"""
The Django project that is measured; ``WINDLASS_BENCH_*`` say which database and how.

Everything that is not said here is Django's default, so tasks run with all of
Django's machinery: signals, results, contexts, connection hygiene.
"""

import json
import os

ENGINE = os.environ["WINDLASS_BENCH_DATABASE"]
NAME = os.environ["WINDLASS_BENCH_NAME"]


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
elif ENGINE == "mariadb":
    import pymysql

    # Django asks for a version of mysqlclient, whose place PyMySQL takes here.
    pymysql.version_info = (2, 2, 8, "final", 0)
    pymysql.install_as_MySQLdb()
    DATABASE = {
        "ENGINE": "django.db.backends.mysql",
        **_server("MYSQL", "3306", "root"),
    }
else:
    DATABASE = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": NAME,
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL",
        },
    }

DATABASES = {"default": DATABASE}
SECRET_KEY = "bench"
USE_TZ = True
INSTALLED_APPS = ["windlass", "windlass.processes", "bench.measured"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
WORKER = {"queues": "*", **json.loads(os.environ.get("WINDLASS_BENCH_WORKER", "{}"))}
TASKS = {
    "default": {
        "BACKEND": "windlass.backend.WindlassBackend",
        "QUEUES": [],
        "OPTIONS": {"workers": [WORKER]},
    }
}
WINDLASS_PROCESSES = json.loads(os.environ.get("WINDLASS_BENCH_PROCESSES", "{}"))
JOBS = {"three": ["bench.tasks.step"] * 3}
LOG = os.environ.get("WINDLASS_BENCH_LOG_TASKS", "off")
LOGGING = {"version": 1, "disable_existing_loggers": False}
if LOG == "off":
    LOGGING["loggers"] = {"django": {"level": "WARNING"}}
elif LOG == "shown":
    # Where Django's default makes no line that anybody sees, this writes them all.
    LOGGING["handlers"] = {"file": {"class": "logging.StreamHandler"}}
    LOGGING["loggers"] = {"django.tasks": {"handlers": ["file"], "level": "INFO"}}
