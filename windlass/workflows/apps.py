"""The optional app. Ready means: ends of jobs are followed, and runs looked after."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class WorkflowsConfig(AppConfig):
    """Configuration of the app ``windlass.workflows``."""

    name = "windlass.workflows"
    label = "windlass_workflows"
    verbose_name = _("Windlass workflows")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Follow jobs, add the reconciler to each dispatcher, register the checks."""
        import windlass.workflows.checks  # noqa: F401
        from windlass.jobs import followers
        from windlass.runtime import service
        from windlass.workflows.following import FOLLOWER
        from windlass.workflows.reconciler import Reconciler

        followers.follow(FOLLOWER)
        service.offered["workflows"] = Reconciler
