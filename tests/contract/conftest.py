"""The dialects under test, each on real, committed rows."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections

from windlass import db

KINDS = {
    "own-owned": (db.dialect, True),
    "own-users": (db.dialect, False),
    "portable-owned": (db.Dialect, True),
    "portable-users": (db.Dialect, False),
}


@pytest.fixture
def database(committed):
    yield committed
    # What an owned connection was tuned to, or left open, ends with it.
    committed.close()


@pytest.fixture(params=KINDS)
def make_dialect(request, database):
    """Make another dialect of the kind under test, as each thread does."""
    make, owned = KINDS[request.param]
    return lambda: make("default", owned=owned)


@pytest.fixture
def dialect(make_dialect):
    return make_dialect()


@pytest.fixture
def vendor(database):
    return database.vendor


@pytest.fixture
def is_own(dialect):
    """Whether this is the database's own dialect, not the portable one."""
    return type(dialect) is not db.Dialect


@pytest.fixture
def others(make_dialect):
    """Run a function with another dialect in another thread; gives futures."""
    with ThreadPoolExecutor(4) as pool:

        def run(function):
            def in_thread():
                try:
                    return function(make_dialect())
                finally:
                    connections["default"].close()

            return pool.submit(in_thread)

        yield run


@pytest.fixture
def gate():
    """Something that one thread opens and another waits for, a while."""
    event = threading.Event()
    yield event
    event.set()
