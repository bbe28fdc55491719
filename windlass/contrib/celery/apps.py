"""The Django application: what a Celery worker has besides the tasks."""

from contextlib import suppress

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class CeleryConfig(AppConfig):
    """Configuration of the app ``windlass.contrib.celery``."""

    name = "windlass.contrib.celery"
    label = "windlass_celery"
    verbose_name = _("Windlass processes on Celery")

    def ready(self) -> None:
        """Have Celery's workers take part, once they start."""
        # Without Celery the backend says what is missing, in a system check.
        with suppress(ModuleNotFoundError):
            from windlass.contrib.celery import in_workers

            in_workers.connect()
