"""
The work of the demo: measure one module, and add up what was measured.

`measure` runs once for each file. What it returns is kept with its job, so
`summarise` needs no table of its own: it reads the jobs.
"""

import ast
import hashlib
import tokenize
from datetime import datetime
from pathlib import Path

from windlass import task
from windlass.models import Job

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@task
def measure(module, path):
    """Read one Python file and say how large it is and what is in it."""
    with tokenize.open(path) as file:
        source = file.read()
    nodes = list(ast.walk(ast.parse(source, filename=path)))
    functions = [node for node in nodes if isinstance(node, FUNCTIONS)]
    return {
        "module": module,
        "sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest(),
        "lines": len(source.splitlines()),
        "functions": len(functions),
        "classes": sum(isinstance(node, ast.ClassDef) for node in nodes),
        "longest": longest(functions),
    }


@task
def summarise(since):
    """Add up the modules measured since a moment, and find the ten largest."""
    jobs = Job.objects.filter(
        task_path=measure.module_path,
        state="succeeded",
        enqueued_at__gte=datetime.fromisoformat(since),
    )
    found = [job.return_value for job in jobs]
    functions = [{"module": each["module"], **each["longest"]} for each in found]
    return {
        "modules": len(found),
        "lines": sum(each["lines"] for each in found),
        "functions": sum(each["functions"] for each in found),
        "classes": sum(each["classes"] for each in found),
        "copies": len(found) - len({each["sha256"] for each in found}),
        "largest": sorted(found, key=lambda each: -each["lines"])[:10],
        "longest": max(functions, key=lambda each: each["lines"], default=None),
    }


def longest(functions):
    """Return the name and length of the longest function: length 0 if none."""
    if not functions:
        return {"name": "", "lines": 0}
    node = max(functions, key=length)
    return {"name": node.name, "lines": length(node)}


def length(node):
    """Count the lines of a function from its `def` to its end."""
    return node.end_lineno - node.lineno + 1
