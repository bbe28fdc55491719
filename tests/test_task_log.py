"""Leaving out log lines that nobody would see, and no others."""

import logging
from contextlib import contextmanager

import pytest
from django.utils.log import CallbackFilter, RequireDebugFalse, RequireDebugTrue

from windlass import signals

INFO = logging.INFO


class Kept(logging.Handler):
    def __init__(self, *filters, level=logging.NOTSET):
        super().__init__(level)
        self.said = []
        for each in filters:
            self.addFilter(each)

    def emit(self, record):
        self.said.append(record)


class Open(Kept):
    """A handler that asks no filter."""

    def handle(self, record):
        self.emit(record)


@pytest.fixture
def tree(monkeypatch):
    """Loggers like Django's, of which nobody else knows: (the tasks', its parent)."""
    parent = logging.Logger("django", INFO)
    logger = logging.Logger("django.tasks")
    logger.parent = parent
    # So that they share the real one's switch for everybody.
    logger.manager = parent.manager = logging.root.manager
    monkeypatch.setattr(signals, "_logger", logger)
    return logger, parent


HANDLERS = [
    [],
    [Kept()],
    [Kept(level=logging.ERROR)],
    [Kept(RequireDebugTrue())],
    [Kept(RequireDebugFalse())],
    [Kept(RequireDebugTrue()), Kept(RequireDebugFalse(), level=logging.ERROR)],
    [Kept(RequireDebugTrue()), Kept()],
    [Open(RequireDebugTrue())],
]


@pytest.mark.parametrize("handlers", HANDLERS)
@pytest.mark.parametrize("is_debug", [True, False])
def test_what_it_says_is_what_logging_does(tree, settings, handlers, is_debug):
    logger, parent = tree
    settings.DEBUG = is_debug
    for handler in handlers:
        handler.said = []
        parent.addHandler(handler)

    says = signals.is_shown(INFO)

    logger.info("a line")
    assert says == any(handler.said for handler in handlers)


def test_a_closed_road_is_seen(tree):
    logger, parent = tree
    parent.addHandler(Kept())
    assert signals.is_shown(INFO)

    logger.propagate = False
    assert not signals.is_shown(INFO)


def test_a_level_that_is_off_is_seen(tree):
    logger, parent = tree
    parent.addHandler(Kept())
    logger.setLevel(logging.WARNING)
    assert not signals.is_shown(INFO)


def test_without_any_handler_the_last_resort_shows_warnings(tree):
    assert not signals.is_shown(INFO)
    assert signals.is_shown(logging.WARNING)


def nothing(*arguments, **more):
    return logging.LogRecord(*arguments, **more)


@contextmanager
def a_record_factory():
    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(nothing)
    yield
    logging.setLogRecordFactory(before)


def test_a_filter_a_factory_and_a_patched_logger_count_as_somebody(tree, monkeypatch):
    logger, parent = tree
    parent.addHandler(Kept(RequireDebugTrue()))
    assert not signals.is_shown(INFO)

    with a_record_factory():
        assert signals.is_shown(INFO)

    logger.addFilter(CallbackFilter(lambda record: False))
    assert signals.is_shown(INFO)
    logger.filters.clear()

    # As error trackers do it, to see every record.
    monkeypatch.setattr(logging.Logger, "callHandlers", nothing)
    assert signals.is_shown(INFO)
