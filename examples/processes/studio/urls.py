"""The admin, and the logs of processes."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("processes/", include("windlass.processes.urls")),
]
