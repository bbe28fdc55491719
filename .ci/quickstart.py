"""
Follow the quick start of README.md to the letter, with a wheel, in a new project.

    quickstart.py sqlite|postgresql WHEEL

It makes a virtual environment, runs the README's shell lines one by one in a
brand-new `django-admin startproject mysite`, appends the README's Python to the
files it names, and checks that the job's result is printed by the last line. Two
things differ from what a reader does: the name `windlass` in the pip line is
replaced by the wheel, and DATABASES is pointed to the server's database.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
EXPECTED = "Hello, world"

POSTGRESQL = """
import os
DATABASES = {"default": {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": os.environ["QUICKSTART_DATABASE"],
    "HOST": os.environ["WINDLASS_TEST_PG_HOST"],
    "PORT": os.environ["WINDLASS_TEST_PG_PORT"],
    "USER": os.environ["WINDLASS_TEST_PG_USER"],
    "PASSWORD": os.environ["WINDLASS_TEST_PG_PASSWORD"],
}}
"""


def main(database: str, wheel: str) -> int:
    """Follow the steps; return 0 if the job's result came out at the end."""
    lines, files = quick_start(README.read_text())
    with tempfile.TemporaryDirectory(prefix="windlass-quickstart-") as directory:
        project = Path(directory) / "project"
        project.mkdir()
        venv.create(Path(directory) / "venv", with_pip=True)
        call = shell(project, Path(directory) / "venv" / "bin")
        call(with_wheel(lines[0], Path(wheel).resolve(), database))
        call("django-admin startproject mysite .")
        for name, text in files.items():
            with open(project / name, "a") as file:
                file.write(f"\n{text}")
        if database == "postgresql":
            with open(project / "mysite" / "settings.py", "a") as file:
                file.write(POSTGRESQL)
        for line in lines[1:]:
            output = call(line)
    if EXPECTED not in output:
        print(f"the last line should have printed {EXPECTED!r}")
        return 1
    return 0


def quick_start(text: str) -> tuple[list[str], dict[str, str]]:
    """Return the shell lines of the section, and the Python for each file."""
    section = re.search(r"^## Quick start$(.*?)^## ", text, re.DOTALL | re.MULTILINE)
    if section is None:
        sys.exit("README.md has no section `## Quick start`")
    blocks = re.findall(r"```(\w+)\n(.*?)```", section[1], re.DOTALL)
    lines = [
        line for kind, block in blocks if kind == "sh" for line in block.splitlines()
    ]
    files = {
        block.splitlines()[0].removeprefix("# "): block
        for kind, block in blocks
        if kind == "python"
    }
    if len(lines) != 5 or not lines[0].startswith("pip install windlass"):
        sys.exit(f"the quick start should be five lines, pip install first: {lines}")
    return lines, files


def with_wheel(line: str, wheel: Path, database: str) -> str:
    """Put the wheel in the place of the distribution's name."""
    extras = "[postgres]" if database == "postgresql" else ""
    return line.replace("windlass", shlex.quote(f"{wheel}{extras}"), 1)


def shell(project: Path, programs: Path):
    """Return a function that runs one shell line in the project, or ends this."""
    env = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
    }

    def call(line: str) -> str:
        print(f"$ {line}", flush=True)
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=project,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        print(done.stdout, flush=True)
        if done.returncode:
            sys.exit(f"exit code {done.returncode}")
        return done.stdout

    return call


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
