"""The Celery app of the project, as it is shown to Celery's command."""

from celery import Celery

app = Celery("tests.contrib.project")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
