"""The Django application. Ready means: the runtime knows who attends processes."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ProcessesConfig(AppConfig):
    """Configuration of the app ``windlass.processes``."""

    name = "windlass.processes"
    label = "windlass_processes"
    verbose_name = _("Windlass processes")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Tell the runtime who attends the jobs that run processes."""
        import windlass.processes.checks  # noqa: F401
        from windlass.processes import attending, settling

        attending.attend()
        settling.settle_what_ends()
