"""The admin, for the tests that look at it."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("processes/", include("windlass.processes.urls")),
]
