"""The admin of the suite's processes, as a project writes it."""

from django.contrib import admin

from tests.processes.models import Report, ReportLog
from windlass.processes.admin import ProcessAdmin, ProcessLogInline


class ReportLogInline(ProcessLogInline):
    model = ReportLog


@admin.register(Report)
class ReportAdmin(ProcessAdmin):
    inlines = [ReportLogInline]
    readonly_fields = ["result"]
