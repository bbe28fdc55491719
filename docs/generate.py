"""
Write the pages that are made from the code: ``python docs/generate.py``.

A test compares each page with what this writes, so neither can change alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent

LIFECYCLE = """\
# The life of a job

<!-- Made by docs/generate.py from windlass/jobs/lifecycle.py. Do not edit. -->

A job is one row, and it has exactly one state at every instant. A verb moves it from
a state to another; what is not in this table cannot happen. An end changes only by an
explicit `retry`, or when a failure is thrown away.

{verbs}

A move of a running job names the node and the claim it belongs to. Only a claim
raises the claim number, so when two parties disagree the database picks one, and the
other one's report is refused with `StaleJob`: nothing of it is written.

```text
{diagram}
```

## States

{states}

## Reasons

Beside the state stands a reason, by which jobs can be filtered.

{reasons}
"""
MEANING = {
    "scheduled": "waits for its `run_after`, or for another attempt",
    "blocked": "waits for a limit or for other jobs",
    "ready": "waits for a worker",
    "running": "a node holds it",
    "succeeded": "an end: its task returned",
    "failed": "an end: no attempt is left, or none may follow",
    "cancelled": "an end: someone, or the task itself, stopped it",
    "discarded": "an end: came too late, refused by a limit or a key, or thrown away",
}
# How the page draws the way of a job; the test checks that each arrow is in the table.
DIAGRAM = """\
          enqueue                 refuse --> discarded
             |
   +---------+----------+
   v                    v       block
scheduled ----------> ready <---------> blocked
   ^    time passes,    |      unblock     |
   |    hasten          | claim            | cancel,
   | fail, snooze       v                  v discard
   +---------------- running --------> cancelled, discarded
                        |     expire
             +----------+-----------+
    complete |          | fail,     | cancel
             v          v rescue    v
         succeeded    failed     cancelled

failed, cancelled, discarded -- retry --> ready
succeeded, failed, cancelled, discarded -- repeat --> blocked
running -- divert --> blocked -- hand_on --> running
running -- advance (to its next step) --> ready"""


def lifecycle_page() -> str:
    """The page about the verbs and states of a job."""
    from windlass.jobs.lifecycle import TRANSITIONS
    from windlass.models import Reason, State

    verbs = [
        (f"`{t.verb}`", _names(t.leaves), _names(t.leads_to), t.said_by)
        for t in TRANSITIONS
    ]
    states = [(f"`{state}`", MEANING[state]) for state in State]
    reasons = [(f"`{reason}`", reason.label) for reason in Reason if reason]
    return LIFECYCLE.format(
        verbs=_table(("verb", "from", "to", "said by"), verbs),
        states=_table(("state", "means"), states),
        reasons=_table(("reason", "means"), reasons),
        diagram=DIAGRAM,
    )


PAGES = {"explanation/lifecycle.md": lifecycle_page}


def _names(states: tuple[str, ...]) -> str:
    return ", ".join(str(state) for state in states) or "none"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _column in head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def main() -> None:
    """Write every page."""
    import django
    from django.conf import settings

    sys.path.insert(0, str(HERE.parent))
    settings.configure(INSTALLED_APPS=["windlass"], USE_TZ=True)
    django.setup()
    for name, make in PAGES.items():
        (HERE / name).write_text(make())


if __name__ == "__main__":
    main()
