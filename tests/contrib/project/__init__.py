"""A project whose processes run on Celery; its app is imported as Celery advises."""

from tests.contrib.project.app import app

__all__ = ["app"]
