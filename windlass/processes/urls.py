"""
Addresses of a process's log, for a project to include::

    path("processes/", include("windlass.processes.urls"))
"""

from django.urls import path

from windlass.processes import views

app_name = "windlass_processes"
urlpatterns = [
    path("<str:label>/<str:pk>/log/", views.log_page, name="log"),
    path("<str:label>/<str:pk>/log/stream/", views.log_stream, name="log_stream"),
    path("<str:label>/<str:pk>/progress/", views.progress, name="progress"),
]
