"""The Django application. It has no tables; its models are views of ``Job``."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class CompatConfig(AppConfig):
    """Configuration of the app ``windlass.compat``."""

    name = "windlass.compat"
    label = "windlass_compat"
    verbose_name = _("Windlass, by earlier names")
    default_auto_field = "django.db.models.BigAutoField"
