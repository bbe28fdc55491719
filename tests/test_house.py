"""
The house's rules, as tests: short and unforgiving.

Sizes are alarms that make you think. What is larger than its budget is listed here
by name, with the decision record that says why.
"""

import ast
import logging
import re
import statistics
import subprocess
import sys
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests import tasks
from tests.contract.rows import DEFAULT, NODE
from windlass import db
from windlass.jobs import announcing, execution, lifecycle
from windlass.models import Job
from windlass.tasks_api import LOGGER_NAME

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "windlass"
MADE_BY_DJANGO = ("migrations/", "compat/migrations/", "workflows/migrations/")
NOT_CORE = (
    *("admin/", "templates/", "static/", "processes/", "workflows/"),
    *("compat/", "contrib/", *MADE_BY_DJANGO),
    # A front door of its own: tasks by name, and waiting for jobs; an extra's code.
    *("by_name.py", "waiting.py", "watcher.py", "jobs/by_name.py"),
    "jobs/redis_wakeups.py",
    # What workflows alone need of the layers below them.
    *("signatures.py", "db/holds.py"),
    # Another: jobs of several steps.
    *("conf_jobs.py", "checks_jobs.py", "multi_step.py", "jobs/steps.py"),
    # Durable steps, which no job pays for that has none.
    *("events.py", "jobs/durable.py", "jobs/recall.py"),
    *("db/memos.py", "db/waits.py", "models/memos.py"),
    # Parts of an app that have to be elsewhere.
    *("db/lines.py", "management/commands/windlass_logs.py"),
    "management/job_lines.py",
    # An operator's hands and eyes, as the admin is.
    *("management/commands/windlass_jobs.py", "management/plain.py"),
    *("management/job_listing.py", "management/job_moves.py"),
)
BANNED = {
    *("utils", "helpers", "common", "misc", "manager", "factory", "types"),
    *("constants", "interfaces"),
}
FILE_LINES, FUNCTION_LINES, MEDIAN_LINES = 300, 40, 8
# Lines of code, and the straight line's length: docs/adr/0011 says why these.
CORE_LINES = 12_600
STRAIGHT_FUNCTIONS, STRAIGHT_FILES = {"postgresql": 38}, 14
# Files over their budget: the decision record that allows it.
LARGE_FILES: dict[str, str] = {}
LARGE_FUNCTIONS: dict[str, str] = {}
# Programs of the tests that wait on purpose: to strike at a random moment, say.
SLEEPERS = {
    *("waiting.py", "kill_cycles.py", "storm.py", "work.py", "models.py"),
    "flow_tasks.py",
}

# What moves a job: said by the lifecycle to the dialect, and by nobody else.
MOVES = {"insert", "insert_many", "storing", "claim", "finish", "put_back"}
MOVERS = {"jobs/lifecycle.py", "jobs/holding.py"}
RARE_MOVES = {
    *("end_waiting", "discard_failed", "hold", "unhold", "hasten", "revive"),
    *("prune", "insert_unique", "refuse", "divert", "hand_on"),
}
HELD_MOVES = {"store", "let_go"}
TABLES = {"LiveJob", "EndedJob"}
WRITES = {
    *("create", "acreate", "bulk_create", "abulk_create", "update", "aupdate"),
    *("bulk_update", "abulk_update", "delete", "adelete", "_raw_delete", "save"),
    *("get_or_create", "update_or_create", "asave"),
}
STATEMENT = re.compile(
    r"(?m)^\s*(SELECT .* FROM |INSERT INTO |UPDATE \w+ SET |DELETE FROM |"
    r"CREATE (TABLE|VIEW|INDEX) |ALTER TABLE |PRAGMA |LISTEN |NOTIFY |COPY \w+ )"
)


def sources(*, without=()):
    """The modules of the package, by their path inside it."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith(without):
            found[name] = path.read_text()
    return found


@cache
def tree(text):
    return ast.parse(text)


def functions(text):
    return [
        node
        for node in ast.walk(tree(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def length(node):
    return node.end_lineno - node.lineno + 1


# Layers and who may do what


def test_a_module_imports_from_lower_rows_only():
    pytest.importorskip("importlinter")
    # In a process of its own, because it switches off every logger that there is.
    code = "from importlinter.cli import lint_imports as l; exit(l(no_cache=True))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def calls(text):
    """Each call of a method, as (what it is called on, its name, line)."""
    for node in ast.walk(tree(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield ast.unparse(node.func.value), node.func.attr, node.lineno


def test_only_the_lifecycle_moves_jobs():
    guilty = []
    for name, text in sources(without=("db/", *MADE_BY_DJANGO)).items():
        if name in MOVERS:
            continue
        for owner, method, line in calls(text):
            last = owner.split(".")[-1].split("(")[0]
            if (method in MOVES and last in ("db", "dialect", "own")) or (
                (method in RARE_MOVES and last == "rare")
                or (method in HELD_MOVES and last == "holds")
            ):
                guilty.append(f"{name}:{line}: {owner}.{method}()")
        for node in ast.walk(tree(text)):
            if isinstance(node, ast.ImportFrom) and node.module == "windlass.db.rare":
                names = {alias.name for alias in node.names} & RARE_MOVES
                guilty += [f"{name}:{node.lineno}: {found}" for found in names]
    assert not guilty, guilty


def test_only_the_dialects_write_the_tables_of_jobs():
    guilty = []
    for name, text in sources(without=("db/", *MADE_BY_DJANGO)).items():
        for owner, method, line in calls(text):
            if method in WRITES and any(table in owner for table in TABLES):
                guilty.append(f"{name}:{line}: {owner}.{method}()")
        if "/" in name and name.split("/")[0] in ("runtime", "management"):
            # Loops and edges say verbs; they have no business with the tables.
            guilty += [f"{name}: {table}" for table in TABLES if table in text]
    assert not guilty, guilty


def test_sql_is_said_in_the_dialects_only():
    guilty = []
    for name, text in sources(without=("db/", *MADE_BY_DJANGO)).items():
        for node in ast.walk(tree(text)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found = STATEMENT.search(node.value)
                if found:
                    guilty.append(f"{name}:{node.lineno}: {found.group().strip()}")
            if isinstance(node, ast.Attribute) and node.attr in ("cursor", "raw"):
                guilty.append(f"{name}:{node.lineno}: .{node.attr}")
    assert not guilty, guilty


# Sizes


def test_no_file_is_named_after_nothing():
    assert not {name for name in sources() if Path(name).stem in BANNED}


def test_files_are_small():
    large = {
        name: text.count("\n")
        for name, text in sources(without=MADE_BY_DJANGO).items()
        if text.count("\n") > FILE_LINES
    }
    assert large.keys() == LARGE_FILES.keys(), large


def test_functions_are_small():
    lengths, large = [], {}
    for name, text in sources(without=MADE_BY_DJANGO).items():
        for function in functions(text):
            lengths.append(length(function))
            if length(function) > FUNCTION_LINES:
                large[f"{name}:{function.name}"] = length(function)
    assert large.keys() == LARGE_FUNCTIONS.keys(), large
    assert statistics.median(lengths) <= MEDIAN_LINES, statistics.median(lengths)


def code_lines(text):
    """How many lines hold code: not blank, no comment, no docstring."""
    said = set()
    for node in ast.walk(tree(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            said.update(range(node.lineno, node.end_lineno + 1))
    return sum(
        bool(line.strip()) and not line.strip().startswith("#") and number not in said
        for number, line in enumerate(text.splitlines(), 1)
    )


def test_the_core_is_small():
    lines = [code_lines(text) for text in sources(without=NOT_CORE).values()]
    assert sum(lines) <= CORE_LINES, sum(lines)


@pytest.mark.parametrize("decision", [*LARGE_FILES.values(), *LARGE_FUNCTIONS.values()])
def test_what_is_large_has_a_decision_record(decision):
    assert (ROOT / "docs/adr" / decision).exists()


# Words


def public(node):
    """The public classes and functions of a module, and methods of its classes."""
    for child in node.body:
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if child.name.startswith("_"):
                continue
            yield child
            if isinstance(child, ast.ClassDef) and child.name != "Meta":
                yield from public(child)


def is_said_by_django(node):
    # What overrides Django's own is documented there; a column of the admin has its
    # description, and an overload its one implementation.
    return node.name in ("Meta", "add_arguments", "handle") or any(
        ast.unparse(decorator).startswith(("overload", "admin.display"))
        for decorator in node.decorator_list
    )


def test_every_module_and_public_name_says_what_it_is_for():
    silent = []
    for name, text in sources(without=MADE_BY_DJANGO).items():
        module = tree(text)
        if module.body and not ast.get_docstring(module):
            silent.append(name)
        for node in public(module):
            obvious = isinstance(node, ast.FunctionDef) and length(node) <= 2
            if not (ast.get_docstring(node) or obvious or is_said_by_django(node)):
                silent.append(f"{name}:{node.lineno}: {node.name}")
    assert not silent, "\n".join(silent)


def test_nothing_names_the_machine_it_was_written_on():
    home = re.compile(r"/(root|home/\w+|Users/\w+|work/\w+)/")
    guilty = []
    for folder in ("windlass", "tests", "docs", "examples", "bench", ".ci"):
        for path in (ROOT / folder).rglob("*"):
            is_text = path.suffix in (".py", ".md", ".toml", ".sh")
            if is_text and path.is_file() and home.search(path.read_text()):
                guilty.append(path.relative_to(ROOT).as_posix())
    assert not guilty, guilty


def test_tests_wait_for_what_happens_and_never_just_sleep():
    guilty = []
    for path in (ROOT / "tests").rglob("*.py"):
        if path.name in SLEEPERS or {"project", "faults"} & set(path.parts):
            continue
        for owner, method, line in calls(path.read_text()):
            if (owner, method) in (("time", "sleep"), ("asyncio", "sleep")):
                guilty.append(f"{path.relative_to(ROOT)}:{line}")
    assert not guilty, guilty


# The straight line


@contextmanager
def followed():
    """The functions of the package that are called inside, in order."""
    chain = []

    def note(frame, event, argument):
        if event == "call":
            path = frame.f_code.co_filename
            # Before Python 3.12 each comprehension had a frame of its own.
            if path.startswith(str(PACKAGE)) and "<" not in frame.f_code.co_name:
                name = Path(path).relative_to(PACKAGE).as_posix()
                call = f"{name}:{frame.f_code.co_qualname}"
                if not chain or chain[-1] != call:
                    chain.append(call)

    sys.setprofile(note)
    try:
        yield chain
    finally:
        sys.setprofile(None)


def one_job(dialect, executor):
    """A job's life: from the call in the user's code to its recorded end."""
    tasks.add.enqueue(1, 2)
    (job,) = lifecycle.claim(dialect, NODE, "default", [DEFAULT], 1)
    outcome = execution.run(job, executor)
    lifecycle.record(dialect, NODE, [outcome.move])
    announcing.announce(outcome, executor)
    return job


@pytest.mark.parametrize("owned", [False, True])
def test_the_straight_line(committed, owned, caplog):
    # As in production, where nobody wants two log lines a job.
    caplog.set_level(logging.WARNING, logger=LOGGER_NAME)
    dialect = db.dialect("default", owned=owned)
    executor = execution.Executor(
        node=NODE,
        database="default",
        backend=type(tasks.add.get_backend()),
        shows_results=False,
    )
    one_job(dialect, executor)  # imports, caches, the connection

    with followed() as chain:
        job = one_job(dialect, executor)
    with CaptureQueriesContext(connection) as captured:
        one_job(db.dialect("default"), executor)
    said = [
        query["sql"]
        for query in captured.captured_queries
        if not query["sql"].startswith(("BEGIN", "COMMIT"))
    ]
    committed.close()

    called = list(dict.fromkeys(chain))
    files = {call.split(":")[0] for call in called}
    story = "\n".join([*called, *sorted(files), *said])
    most = STRAIGHT_FUNCTIONS.get(connection.vendor, 44)
    assert len(called) <= most, f"{len(called)} functions:\n{story}"
    assert len(files) <= STRAIGHT_FILES, f"{len(files)} files:\n{story}"
    assert len(said) <= (4 if connection.vendor == "postgresql" else 6), story
    assert Job.objects.get(pk=job.id).state == "succeeded"
