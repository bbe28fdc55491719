"""
``manage.py windlass_doctor``: what a backend stands on, and what to do about it.

Exit codes: 0 if nothing is a problem (there may be warnings); 1 if something is; 2 for
a ``--backend`` that does not exist.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from windlass import conf
from windlass.exceptions import ConfigurationError
from windlass.management.backend import options_of
from windlass.management.doctor import examine
from windlass.management.finding import Finding


class Command(BaseCommand):
    """Examine a backend, and say what is wrong and what to do."""

    help = "Check database, options, clock, nodes and queues; say what to do."
    # Wrong settings are a finding, and must not keep the others from being made.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add("--backend", default=None, help="Alias in TASKS; default: the first.")
        add("--json", action="store_true", help="Print one JSON object.")

    def handle(self, **given: Any) -> None:
        alias = given["backend"]
        try:
            findings = examine(options_of(alias))
        except ConfigurationError as error:
            if alias is not None and alias not in conf.aliases():
                raise CommandError(str(error), returncode=2) from error
            do = "Correct it where the message says; the rest was not examined."
            findings = [Finding("options", "problem", str(error), do)]
        problems = sum(finding.level == "problem" for finding in findings)
        if given["json"]:
            found = [asdict(finding) for finding in findings]
            self.stdout.write(json.dumps({"ok": not problems, "findings": found}))
        else:
            self._say(findings)
        if problems:
            sys.exit(1)

    def _say(self, findings: list[Finding]) -> None:
        for finding in findings:
            self.stdout.write(f"{finding.level:8} {finding.check}: {finding.says}")
            if finding.do:
                self.stdout.write(f"{'':8} {finding.do}")
