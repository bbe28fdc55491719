"""Arguments as JSON: what goes in comes out, on every database, or is refused."""

import json
from collections import OrderedDict, UserList, deque
from types import MappingProxyType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import tasks
from tests.running import fresh, run_one
from windlass.exceptions import InvalidArguments
from windlass.jobs.arguments import MAX_DEPTH, dump_call, dump_result, dump_value
from windlass.tasks_api import default_task_backend

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def named(items):
    return st.dictionaries(text, items, max_size=4)


floats = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | floats | text
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | named(inner),
    max_leaves=12,
)
anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.binary() | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.integers() | st.text(), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(args=st.lists(values, max_size=4), kwargs=named(values))
def test_json_values_come_back_equal(args, kwargs):
    args_text, kwargs_text = dump_call("a.task", args, kwargs)

    assert json.loads(args_text) == args
    assert json.loads(kwargs_text) == kwargs


@given(args=st.lists(anything, max_size=3))
def test_whatever_is_accepted_is_plain_json_and_whatever_is_not_is_named(args):
    try:
        args_text, _kwargs_text = dump_call("a.task", args, {})
    except InvalidArguments as error:
        said = str(error)
    else:
        said = None

    if said is not None:
        assert "args[" in said
        return
    found = str(json.loads(args_text, parse_constant=lambda name: 1 / 0))
    assert "\0" not in found
    assert found.encode()


@pytest.mark.django_db
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(args=st.lists(values, max_size=3), kwargs=named(values))
def test_the_database_gives_the_arguments_back_as_they_were(args, kwargs, db):
    result = default_task_backend.enqueue(tasks.echo, args, kwargs)

    job = fresh(result)

    assert (job.args, job.kwargs) == (args, kwargs)
    assert tasks.echo.get_result(result.id) == result


@pytest.mark.django_db
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(args=st.lists(values, max_size=3))
def test_the_task_gets_them_and_its_answer_comes_back(args, db):
    result = tasks.echo.enqueue(*args)

    done = run_one()

    assert done.id == result.id
    assert done.return_value == {"args": tuple(args), "kwargs": {}}
    result.refresh()
    assert result.return_value == {"args": args, "kwargs": {}}


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ((1, (2, 3)), [1, [2, 3]]),
        (b"text", "text"),
        (OrderedDict(a=1), {"a": 1}),
        (MappingProxyType({"a": (1,)}), {"a": [1]}),
        (range(3), [0, 1, 2]),
        (UserList([1]), [1]),
        (deque([1]), [1]),
        ({1: "one", None: "none"}, {"1": "one", "null": "none"}),
        ("emoji 🚀, é, 漢字, \u2028", "emoji 🚀, é, 漢字, \u2028"),
        (r"\u0000 and \ud800 as written", r"\u0000 and \ud800 as written"),
        ("\x01\x1f\x7f\\", "\x01\x1f\x7f\\"),
        (1e300, 1e300),
        (-0.0, 0.0),
    ],
)
def test_djangos_wider_contract_is_kept(given, stored):
    assert json.loads(dump_value(given, "it")) == stored


def test_nesting_is_limited_where_every_parser_still_reads_it():
    assert dump_value(tasks.nested(MAX_DEPTH), "it")
    for depth in (MAX_DEPTH + 1, 3000):
        with pytest.raises(TypeError, match=r"^it is of type list: .*"):
            dump_value(tasks.nested(depth), "it")


def test_many_brackets_are_not_depth():
    wide = [[] for _ in range(2 * MAX_DEPTH)]

    assert json.loads(dump_value(wide, "it")) == wide
    assert json.loads(dump_value("[{" * MAX_DEPTH, "it")) == "[{" * MAX_DEPTH


def test_none_is_stored_as_nothing_and_false_values_are_not():
    assert dump_result(None) is None
    assert [dump_result(value) for value in (0, "", [], {}, False)] == [
        *("0", '""', "[]", "{}", "false")
    ]


def test_a_value_is_refused_under_its_own_name():
    with pytest.raises(TypeError, match=r"^The task ran, but the return value\['a'\]"):
        dump_result({"a": object()})
    with pytest.raises(TypeError, match=r"^progress\['a'\] is of type float"):
        dump_value({"a": float("nan")}, "progress")


def test_a_large_float_is_written_so_that_every_database_reads_a_float():
    value = {"e+16": [1e16, -7.205759403791589e16, 1.5e300, 1e-300], 'a"1e+16': "\\"}

    written = dump_value(value, "it")

    assert '"e+16": [10000000000000000.0, -72057594037915890.0,' in written
    assert json.loads(written) == value
    assert all(type(item) is float for item in json.loads(written)["e+16"])
