"""The runtime's log lines as events: all of them, with names for their values."""

import ast
import json
import logging
import re
import sys

from tests.test_house import sources
from windlass.logs import EVENTS, JSONFormatter, name_events

# A line that is put together before it is logged, by the name it then has.
NAMED = {"said": "The schedule %r of the settings: %s"}


def lines():
    """The text and the number of values of each line that the package logs."""
    for text in sources().values():
        for node in ast.walk(ast.parse(text)):
            is_call = isinstance(node, ast.Call)
            if not is_call or not isinstance(node.func, ast.Attribute):
                continue
            if getattr(node.func.value, "id", "") == "logger" and node.args:
                first = node.args[0]
                said = NAMED[first.id] if isinstance(first, ast.Name) else first.value
                yield said, len(node.args) - 1


def record(message, *values, level=logging.WARNING, exc_info=None):
    made = logging.LogRecord("windlass", level, __file__, 1, message, values, exc_info)
    assert name_events(made)
    return made


def test_every_line_of_the_package_is_an_event_and_no_other_is_named():
    found = dict(lines())

    assert found.keys() == EVENTS.keys()
    assert {text: len(event.fields) for text, event in EVENTS.items()} == found


def test_names_of_events_and_fields_hide_nothing_of_a_record():
    taken = set(vars(record("x"))) | {"message", "asctime"}

    for event in EVENTS.values():
        assert re.fullmatch(r"[a-z]+\.[a-z_]+", event.name)
        assert not taken & {"event", *event.fields}


def test_a_record_carries_its_event_and_fields():
    made = record("%s (process %s) %s; replacing it.", "worker-1.1", 4711, "was killed")

    assert (made.event, made.part, made.pid) == ("part.replaced", "worker-1.1", 4711)
    assert made.getMessage() == "worker-1.1 (process 4711) was killed; replacing it."


def test_lines_of_others_stay_as_they_are():
    made = record("something %s", 1)

    assert not hasattr(made, "event")


def test_the_logger_of_the_package_names_its_events(caplog):
    logging.getLogger("windlass").warning("%s: could not sign off (%s).", "w", "e")

    assert caplog.records[-1].event == "node.not_signed_off"


def test_a_line_of_json_has_everything_and_is_one_line():
    try:
        raise ValueError("two\nlines")
    except ValueError:
        made = record(
            "%s: the database %r does not answer (%s). Trying again until it does.",
            *("flusher", "default", ValueError("gone")),
            exc_info=sys.exc_info(),
        )

    text = JSONFormatter().format(made)

    assert "\n" not in text
    said = json.loads(text)
    assert said["event"] == "database.lost"
    assert (said["part"], said["database"], said["error"]) == (
        *("flusher", "default", "gone"),
    )
    assert said["level"] == "WARNING"
    assert said["traceback"].endswith("ValueError: two\nlines")
    assert said["time"].endswith("+00:00")


def test_a_line_of_another_logger_is_json_too():
    made = logging.LogRecord("shop", logging.INFO, __file__, 1, "sold %s", (3,), None)

    said = json.loads(JSONFormatter().format(made))

    assert (said["message"], said["logger"]) == ("sold 3", "shop")
    assert "event" not in said
