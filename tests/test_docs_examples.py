"""
The documentation says what is so: its examples run, its tables equal the code.

Each page is one story. A block that begins with a comment naming a file, such as
``# shop/tasks.py``, is that module, or its next part; ``# mysite/settings.py`` is
checked as settings; tests in ``# shop/tests.py`` are run. Any other Python block is
a script, and a ``pycon`` block is a session whose output is compared. Where a
page starts a worker, what is ready is run. A ``py`` block is how another package
spells it: it must be Python, and is not run.

A block that cannot run here says why, in a comment before it: <!-- not run: why -->
"""

import doctest
import re
import sys
import textwrap
import unittest
from dataclasses import MISSING, fields
from inspect import getmembers, isclass, isfunction, signature
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import pytest
from django.conf import settings
from django.core.management.base import BaseCommand
from django.dispatch import Signal

from windlass import (
    api,
    conf,
    conf_jobs,
    conf_recurring,
    exceptions,
    logs,
    recurring,
    signals,
)
from windlass.api import claim_ready_jobs, execute_claimed_job
from windlass.compat.management.commands import (
    create_job,
    delete_old_jobs,
    queue_depth,
    run_worker,
    worker,
)
from windlass.jobs import resolving
from windlass.jobs.context import JobContext
from windlass.jobs.results import JobResult
from windlass.management.commands import windlass as runtime
from windlass.management.commands import (
    windlass_doctor,
    windlass_health,
    windlass_logs,
)
from windlass.models import Job, Reason, Schedule, ScheduleMark, State
from windlass.processes import conf as process_conf
from windlass.task import Task
from windlass.tasks_api import BACKPORT, TaskContext

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<why>[^\n]+) -->\n)?"
    r"^```(?P<kind>\w+)\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
FILE = re.compile(r"# ([\w/]+)\.py\n")
WORKER = re.compile(r"manage\.py (windlass|run_worker|worker)\b")
MOST_LINES = 150
MOST_NOT_RUN = 5
EARLIER = [create_job, delete_old_jobs, queue_depth, run_worker, worker]
OPTIONS_OF = {
    "## Each entry of workers": conf.WorkerOptions,
    "## Each entry of recurring": conf_recurring.Recurring,
    "## scheduler": conf_recurring.SchedulerOptions,
}


def blocks(page):
    """The blocks of a page: kind, code as if alone at its line, why not to run it."""
    text = page.read_text()
    for found in BLOCK.finditer(text):
        code = textwrap.dedent(found["code"])
        if BACKPORT:
            code = code.replace("django.tasks", "django_tasks")
        line = text.count("\n", 0, found.start("code"))
        yield found["kind"], code, line, found["why"]


def name(page):
    return page.relative_to(DOCS).as_posix()


@pytest.fixture
def project(monkeypatch):
    """Modules of the examples' project, gone after the test."""
    made = {}

    def module(path):
        if path not in made:
            for part in (path.rpartition(".")[0], path):
                if part not in sys.modules or part == path:
                    new = ModuleType(part)
                    new.__path__ = []
                    monkeypatch.setitem(sys.modules, part, new)
            made[path] = sys.modules[path]
        return made[path]

    yield module
    resolving.forget()


class Story:
    """A page's examples, run from top to bottom."""

    def __init__(self, page, project):
        self.page, self.project = page, project
        self.script = project("docs_script").__dict__

    def tell(self):
        for kind, code, line, why in blocks(self.page):
            if why:
                continue
            if kind == "python":
                self.python(code, line)
            elif kind == "pycon":
                self.session(code, line)
            elif kind == "py":
                compile(code, str(self.page), "exec")
            elif kind == "sh" and WORKER.search(code):
                run_jobs()

    def python(self, code, line):
        found = FILE.match(code)
        # Blank lines first, so that a traceback names the page's own line.
        program = compile("\n" * line + code, str(self.page), "exec")
        if found is None:
            exec(program, self.script)
        elif found[1].endswith("/settings"):
            check_settings(program)
        else:
            module = self.project(found[1].replace("/", "."))
            exec(program, module.__dict__)
            run_tests(module)

    def session(self, code, line):
        parser = doctest.DocTestParser()
        test = parser.get_doctest(code, self.script, name(self.page), None, line)
        said = []
        options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        doctest.DocTestRunner(optionflags=options).run(
            test, out=said.append, clear_globs=False
        )
        assert not said, "".join(said)
        self.script.update(test.globs)


def run_jobs():
    """Do what a worker would: run what is ready until nothing is."""
    while claimed := claim_ready_jobs(limit=100):
        for job in claimed:
            execute_claimed_job(job)


def run_tests(module):
    """Run the test cases that a block has added, and forget them."""
    suite = unittest.TestSuite()
    for key, value in list(vars(module).items()):
        own = getattr(value, "__module__", "") == module.__name__
        if own and isclass(value) and issubclass(value, unittest.TestCase):
            suite.addTests(unittest.defaultTestLoader.loadTestsFromTestCase(value))
            delattr(module, key)
    result = unittest.TestResult()
    suite.run(result)
    assert result.wasSuccessful(), result.errors + result.failures


def check_settings(program):
    """Read settings as Windlass would; what they name must exist."""
    found = {"INSTALLED_APPS": []}
    exec(program, found)
    settings.JOBS = found.get("JOBS", settings.JOBS)
    for job in found.get("JOBS", ()):
        assert conf_jobs.plan(job)
    with patch.dict(settings.DATABASES, jobs={}):
        for alias, entry in found.get("TASKS", {}).items():
            conf.parse(alias, entry)
            assert entry["BACKEND"] == "windlass.backend.WindlassBackend"
    processes = found.get("WINDLASS_PROCESSES", {})
    process_conf.parse(processes)
    others = {"DATABASES", "LOGGING", "JOBS"}
    assert found.get("TASKS") or processes or found.keys() & others


# Not inside a transaction: a page's test cases bring their own.
@pytest.mark.usefixtures("committed")
@pytest.mark.filterwarnings("ignore:.*default mailer")
@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_examples_of_a_page_run(page, project, settings):
    # The examples' project stands in for an installed app.
    own = {**settings.TASKS["default"], "OPTIONS": {"task_modules": ["shop.*"]}}
    settings.TASKS = {**settings.TASKS, "default": own}
    settings.JOBS = {}
    Story(page, project).tell()


def test_few_examples_are_not_run():
    skipped = [why for page in PAGES for *_rest, why in blocks(page) if why]

    assert len(skipped) <= MOST_NOT_RUN


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_is_short(page):
    assert len(page.read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize("page", sorted((DOCS / "coming-from").glob("*.md")), ids=name)
def test_who_comes_from_elsewhere_is_told_everything(page):
    headings = re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE)

    told = ("Side by side", "What differs", "What is better", "What is missing")
    assert tuple(headings[-5:]) == (*told, "Step by step")
    assert {"python", "pycon", "sh"} <= {kind for kind, *_rest in blocks(page)}


def test_the_files_that_a_page_names_exist():
    root = DOCS.parent
    for page in PAGES:
        for path in re.findall(r"`((?:\w+/)+\w+\.py)`", page.read_text()):
            assert (root / path).exists() or (root / "windlass" / path).exists(), path


# Tables


def rows(page, heading=""):
    """The rows of the tables under a heading, as lists of cells."""
    text = (DOCS / page).read_text()
    if heading:
        text = re.split(r"^## ", text.partition(heading)[2], flags=re.MULTILINE)[0]
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [re.split(r"(?<!\\) ?\| ?", line)[1:-1] for line in lines]


def names(page, heading=""):
    """The names in the first column: the code before any bracket or space."""
    first = [row[0] for row in rows(page, heading)]
    return [found for cell in first for found in re.findall(r"`([-\w]+)", cell)]


def defaults(cls):
    values = {}
    for field in fields(cls):
        if field.default is not MISSING:
            values[field.name] = field.default
    return values


def shown(value):
    return repr(list(value) if isinstance(value, tuple) else value).replace("'", '"')


@pytest.mark.parametrize(
    ("heading", "parsers", "given"),
    [
        ("## The entry", conf._ENTRY, {"workers": None}),
        ("## OPTIONS", conf._OPTIONS, {"workers": [{}]}),
        ("## Each entry of workers", conf._WORKER, {}),
        ("## Each entry of recurring", conf_recurring.RECURRING, {}),
        ("## scheduler", conf_recurring.SCHEDULER, {}),
    ],
)
def test_every_option_is_described_with_its_default(heading, parsers, given):
    assert set(names("reference/options.md", heading)) == set(parsers)

    known = {**defaults(OPTIONS_OF.get(heading, conf.Options)), **given}
    for option, _type, default, _effect in rows("reference/options.md", heading):
        key = option.strip("`").lower()
        # What stands for an empty value is said in words.
        in_words = default in ("the task's", "`TIME_ZONE`") and not known.get(key)
        if key in known and default and not in_words:
            assert default == f"`{shown(known[key])}`"


@pytest.mark.parametrize(
    "module", [runtime, windlass_health, windlass_doctor, windlass_logs]
)
def test_every_flag_is_described(module):
    own = flags(module.Command()) - flags(BaseCommand())
    heading = f"## manage.py {module.__name__.rpartition('.')[2]}\n"

    assert set(names("reference/commands.md", heading)) == own


@pytest.mark.parametrize("module", EARLIER)
def test_every_argument_of_an_earlier_command_is_described(module):
    command = module.Command()
    inherited = runtime.Command() if isinstance(command, runtime.Command) else None
    positional = {each.dest for each in actions(command) if not each.option_strings}
    own = flags(command) - flags(inherited or BaseCommand()) | positional
    heading = f"## manage.py {module.__name__.rpartition('.')[2]}\n"

    assert set(names("reference/compat.md", heading)) == own


def actions(command):
    return command.create_parser("manage.py", "windlass")._actions


def flags(command):
    return {flag for action in actions(command) for flag in action.option_strings}


def test_every_error_is_described():
    own = {
        key
        for key, value in getmembers(exceptions, isclass)
        if value.__module__ == exceptions.__name__
    }

    assert set(names("reference/errors.md")) == own


def test_what_an_error_is_besides_is_so():
    for cell, besides, *_rest in rows("reference/errors.md"):
        cls = getattr(exceptions, cell.strip("`"))
        bases = {base.__name__.removesuffix("Error") for base in cls.__mro__}
        for base in re.findall(r"`(\w+)`", besides):
            assert base.removesuffix("Error") in bases


def test_every_signal_is_described():
    own = {key for key, value in vars(signals).items() if isinstance(value, Signal)}

    assert set(names("reference/signals-and-logs.md", "## Ours")) == own


def test_every_event_of_the_log_is_described_with_its_fields():
    described = {}
    for events, named in rows("reference/signals-and-logs.md", "### Events"):
        for event in re.findall(r"`([\w.]+)`", events):
            described[event] = set(re.findall(r"`(\w+)`", named))
    own = {}
    for event in logs.EVENTS.values():
        own.setdefault(event.name, set()).update(event.fields)

    assert described == own


def test_every_keyword_of_a_task_is_described():
    own = {field.name for field in fields(Task)} - {"func", "run_after"}

    assert set(names("reference/tasks.md", "## @task")) == own


def test_every_member_of_the_context_is_described():
    own = {key for key in vars(JobContext) if not key.startswith("_")}
    internal = {"job", "node", "database", "stop_asked", "timeout", "began", "recall"}
    own = (own | {"task_result", "attempt"}) - internal

    assert set(names("reference/tasks.md", "## The context")) == own
    assert issubclass(JobContext, TaskContext)


def test_every_public_function_is_described_with_its_signature():
    own = {
        key: value
        for key, value in getmembers(api, isfunction)
        # An async twin is described by the function it stands beside, and what is about
        # schedules on their own page.
        if key in api.__all__
        and not (key.startswith("a") and key[1:] in api.__all__)
        and value.__module__ != recurring.__name__
    }
    described = {
        row[0].partition("(")[0].strip("`"): row[0].strip("`")
        for row in rows("reference/tasks.md", "## windlass.api")
    }

    assert described.keys() == own.keys()
    for key, function in own.items():
        assert set(re.findall(r"\w+(?=[,=)])", described[key])) >= {
            parameter
            for parameter in signature(function).parameters
            if parameter != "backend_alias"
        }


def test_every_function_about_schedules_is_described_with_its_signature():
    own = {
        key: value
        for key, value in getmembers(api, isfunction)
        if value.__module__ == recurring.__name__ and key in vars(api)
    }
    described = {
        row[0].partition("(")[0].strip("`"): row[0].strip("`")
        for row in rows("reference/schedules.md", "## Functions")
    }

    assert own.keys() == {*described, *(f"a{key}" for key in described)}
    for key, text in described.items():
        parameters = set(re.findall(r"\w+(?=[,=)])", text))
        assert parameters - {"None"} == set(signature(own[key]).parameters)
        assert signature(own[key]) == signature(own[f"a{key}"])


@pytest.mark.parametrize("model", [Schedule, ScheduleMark])
def test_every_field_of_a_schedule_and_its_marks_is_described(model):
    described = [
        found
        for row in rows("reference/schedules.md", f"## {model.__name__} ")
        for found in re.findall(r"`(\w+)`", row[0])
    ]

    assert set(described) == {field.name for field in model._meta.get_fields()}


def test_every_field_of_a_result_is_described():
    own = {field.name for field in fields(JobResult)} - {"_return_value"}

    assert own <= set(names("reference/results-and-jobs.md", "## The result"))


def test_every_field_of_a_job_is_described():
    own = {field.name for field in Job._meta.get_fields()}
    own |= {key for key, value in vars(Job).items() if isinstance(value, property)}

    assert own - {"pk"} == set(names("reference/results-and-jobs.md", "## Job"))


def test_every_state_and_reason_is_described():
    page = "reference/results-and-jobs.md"

    assert names(page, "## States") == State.values
    assert set(names(page, "## Reasons")) == set(filter(None, Reason.values))
