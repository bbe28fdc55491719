"""The Django application. Ready means: the Tasks API's checks and log lines are on."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class WindlassConfig(AppConfig):
    """Configuration of the app ``windlass``."""

    name = "windlass"
    label = "windlass"
    verbose_name = _("Windlass")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the checks, and the receivers that Django 6 connects by itself."""
        import logging

        import windlass.checks
        import windlass.checks_jobs  # noqa: F401
        from windlass.logs import name_events
        from windlass.tasks_api import BACKPORT

        # It keeps every record; the same function is added once only.
        logging.getLogger("windlass").addFilter(name_events)
        if BACKPORT:
            import django_tasks.checks
            import django_tasks.signals  # noqa: F401
