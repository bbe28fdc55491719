"""A process that reads the files of a directory, its log, and what it finds."""

import hashlib
from pathlib import Path

from django.core.exceptions import ValidationError
from django.db import models

from windlass.processes.models import BaseProcess, BaseProcessLog

BLOCK = 500


class Inventory(BaseProcess):
    """Stores the checksum of every file below a directory."""

    # A worker that dies is followed by another.
    max_attempts = 3

    directory = models.CharField(max_length=500)

    def clean(self):
        if not Path(self.directory).is_dir():
            raise ValidationError({"directory": "There is no such directory."})

    def run(self):
        # Of an attempt that came to no end.
        self.checksums.all().delete()
        paths = sorted(p for p in Path(self.directory).rglob("*") if p.is_file())
        self.log(f"{len(paths):,} files below {self.directory}")
        found, unreadable = [], 0
        for path in self.track(paths, desc="files"):
            try:
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError as error:
                self.log(f"{path}: {error.strerror}", level="warning")
                unreadable += 1
                continue
            found.append(Checksum(inventory=self, path=path, sha256=digest))
            if len(found) == BLOCK:
                self.store(found)
        self.store(found)
        if unreadable == len(paths):
            raise ValueError(f"No file below {self.directory} could be read.")

    def store(self, found):
        Checksum.objects.bulk_create(found)
        self.log(f"{self.checksums.count():,} checksums are stored.")
        found.clear()


class InventoryLog(BaseProcessLog):
    process = models.ForeignKey(Inventory, models.CASCADE, related_name="logs")


class Checksum(models.Model):
    inventory = models.ForeignKey(Inventory, models.CASCADE, related_name="checksums")
    path = models.CharField(max_length=1000)
    sha256 = models.CharField(max_length=64)

    def __str__(self):
        return f"{self.sha256}  {self.path}"
