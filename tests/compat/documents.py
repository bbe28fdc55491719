"""
The quick starts of earlier packages, as projects of their own.

A project holds an earlier document's example with the changes that the page "coming
from" asks for, and no other: the table under "What to rewrite", and the settings.
"""

import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

from tests.integration.runtime import ROOT, environment
from tests.test_docs_examples import blocks, rows
from windlass.tasks_api import BACKPORT

DOCS = ROOT / "docs"
SETTINGS = """\
from tests.integration.project.settings import *

# As a project that never heard of Windlass has them.
INSTALLED_APPS = [app for app in INSTALLED_APPS if not app.startswith("windlass")]
del TASKS
"""


class Project:
    """A Django project in a directory, on the database of this test session."""

    def __init__(self, directory, page, files):
        self.directory, self.page = Path(directory), page
        for name, text in files.items():
            self.write(name, self.rewritten(dedent(text)))
        self.write("mysite/__init__.py", "")
        self.write("mysite/settings.py", SETTINGS + self.settings())
        self.env = environment(
            self.directory / "journal",
            DJANGO_SETTINGS_MODULE="mysite.settings",
            PYTHONPATH=f"{self.directory}:{ROOT}",
        )

    def write(self, name, text):
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def rewritten(self, text):
        """An example with what the page's table says instead."""
        pairs = rows(f"coming-from/{self.page}.md", "## What to rewrite\n")
        assert pairs
        for before, after in pairs:
            text = text.replace(before.strip("`"), after.strip("`"))
        return text.replace("django.tasks", "django_tasks") if BACKPORT else text

    def settings(self):
        """The settings that the page asks for."""
        found = [
            code
            for kind, code, _line, _why in blocks(DOCS / f"coming-from/{self.page}.md")
            if kind == "python" and re.match(r"# mysite/settings.py\n", code)
        ]
        return found[0]

    def shell(self, text):
        """What an example prints, as ``manage.py shell`` runs it."""
        return self.call("shell", "--command", self.rewritten(dedent(text)))

    def call(self, *arguments):
        """What a command prints; it must end well."""
        done = subprocess.run(
            [sys.executable, "-m", "django", *arguments],
            cwd=self.directory,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
