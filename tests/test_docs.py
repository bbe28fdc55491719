"""The pages that are made from the code equal the code."""

import importlib.util
from pathlib import Path

import pytest

from windlass.jobs.lifecycle import TRANSITIONS

DOCS = Path(__file__).parent.parent / "docs"


def generate():
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", generate().PAGES)
def test_a_generated_page_equals_the_code(name):
    assert (DOCS / name).read_text() == generate().PAGES[name](), (
        "Run: python docs/generate.py"
    )


def test_the_page_has_a_line_for_each_verb():
    page = (DOCS / "explanation/lifecycle.md").read_text()

    for transition in TRANSITIONS:
        line = next(
            line for line in page.splitlines() if f"| `{transition.verb}` |" in line
        )
        for state in (*transition.leaves, *transition.leads_to):
            assert str(state) in line


def test_the_diagram_shows_every_state_and_the_verbs_between_them():
    module = generate()

    for state in module.MEANING:
        assert state in module.DIAGRAM
    for transition in TRANSITIONS:
        # Release leads back where claim came from; prune leads nowhere.
        if transition.verb not in ("release", "prune"):
            assert transition.verb in module.DIAGRAM
