"""The process in the admin: state, progress, last lines; start, cancel, restart."""

from django.contrib import admin

from checksums.models import Inventory, InventoryLog
from windlass.processes.admin import ProcessAdmin, ProcessLogInline


class LastLines(ProcessLogInline):
    model = InventoryLog


@admin.register(Inventory)
class InventoryAdmin(ProcessAdmin):
    list_display = ("directory", *ProcessAdmin.list_display)
    inlines = [LastLines]
