"""Processes that do nothing but log, or wait."""

import random
import time
from typing import Any

from django.db import models, transaction
from django.utils import timezone

from windlass.processes import sinks
from windlass.processes.models import BaseProcess, BaseProcessLog

# About as long as lines of programs are.
TEXT = "took the next row of the file and wrote what it says into the table"


class Measured(BaseProcess):
    """Does what ``kind`` says."""

    kind = models.CharField(max_length=20)
    number = models.IntegerField(default=0)

    def run(self) -> None:
        getattr(self, f"do_{self.kind}")(self.number)

    def do_lines(self, number: int) -> None:
        """Say as much as it can."""
        for n in range(number):
            self.log(f"{n} {TEXT}")

    def do_lines_as_before(self, number: int) -> None:
        """The same by the queries of djprocess 0.0.1: lock the last, add the next."""
        lines = MeasuredLog.objects.select_for_update().filter(process=self)
        numbers: Any = lines.order_by("-sequence").values_list("sequence", flat=True)
        # Two who number so at once get the same number.
        sinks.sink_of(self).flush()
        for n in range(number):
            with transaction.atomic():
                MeasuredLog.objects.create(
                    process=self,
                    sequence=(numbers.first() or 0) + 1,
                    level="info",
                    message=f"{n} {TEXT}",
                    created=timezone.now(),
                )

    def do_speak(self, number: int) -> None:
        """Say what time it is, now and then."""
        gaps = random.Random(7)
        for _ in range(number):
            time.sleep(gaps.uniform(0.05, 0.45))
            self.log(repr(time.time()))

    def do_begin(self, _number: int) -> None:
        self.log(repr(time.time()))

    def do_wait(self, seconds: int) -> None:
        time.sleep(seconds)


class MeasuredLog(BaseProcessLog):
    """Their lines."""

    process = models.ForeignKey(Measured, on_delete=models.CASCADE, related_name="logs")
