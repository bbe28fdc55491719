"""
Settings of the demo project: what `startproject` gives, plus Windlass.

The database is a SQLite file in the working directory DEMO_DIR (`.demo`).
Set DEMO_DATABASE_URL=postgresql://user:password@host:port/name to run the
same demo on PostgreSQL; the database has to exist.
"""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from django.core.management.utils import get_random_secret_key

BASE_DIR = Path(__file__).resolve().parent.parent
DEMO_DIR = Path(os.environ.get("DEMO_DIR", ".demo")).resolve()
# Here and not in a command: Django's system checks open the database before one runs.
DEMO_DIR.mkdir(parents=True, exist_ok=True)


def database_from(url):
    """Return Django's settings for a postgresql:// address, or for the SQLite file."""
    if not url:
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(DEMO_DIR / "demo.sqlite3"),
        }
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"} or not parts.path.strip("/"):
        raise ValueError(
            "DEMO_DATABASE_URL must look like postgresql://user@host:5432/name"
        )
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.strip("/"),
        "HOST": parts.hostname or "",
        "PORT": parts.port or "",
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
    }


# Only the web server of `make demo-serve` sets DEMO_DEBUG, for the admin's static
# files. A key for each process is enough: it is the one that holds the sessions.
DEBUG = os.environ.get("DEMO_DEBUG") == "1"
SECRET_KEY = get_random_secret_key()
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "windlass",
    "stdlib_survey",
]
TASKS = {"default": {"BACKEND": "windlass.backend.WindlassBackend"}}

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
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
            ],
        },
    },
]
ROOT_URLCONF = "demo.urls"
STATIC_URL = "static/"

DATABASES = {"default": database_from(os.environ.get("DEMO_DATABASE_URL"))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TIME_ZONE = "UTC"
USE_TZ = True
