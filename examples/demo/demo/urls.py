"""Two addresses: a page that starts a survey, and the admin that shows its jobs."""

from django.contrib import admin
from django.urls import path
from stdlib_survey import views

urlpatterns = [
    path("", views.index, name="index"),
    path("admin/", admin.site.urls),
]
