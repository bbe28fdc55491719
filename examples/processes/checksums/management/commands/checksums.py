"""Start an inventory of a directory, and follow it if somebody wants to."""

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from checksums.models import Inventory


class Command(BaseCommand):
    help = "Store the checksum of every file below a directory."

    def add_arguments(self, parser):
        parser.add_argument("directory")
        parser.add_argument("--follow", action="store_true", help="Show the log.")

    def handle(self, directory, follow, **options):
        if connection.settings_dict["NAME"] == ":memory:":
            # What is in memory is this command's alone.
            call_command("migrate", verbosity=0)
        inventory = Inventory(directory=directory)
        inventory.full_clean()
        inventory.save()
        inventory.start()
        for line in inventory.stream() if follow else inventory.tail():
            self.stdout.write(f"{line.sequence:>5} {line.level:<7} {line.message}")
        inventory.refresh_from_db()
        self.stdout.write(f"{inventory.status}: {inventory.checksums.count():,} files")
        if inventory.status not in ("succeeded", "pending", "running"):
            raise CommandError(inventory.error)
