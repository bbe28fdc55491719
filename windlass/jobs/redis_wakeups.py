"""
Notes by Redis or Valkey, for databases that carry none.

A note is published after the commit. New jobs are told on a channel of their queue, so
that only workers which serve it are woken; the rest on the channel of the alias.
That Redis is away costs an enqueue nothing but a look at a clock: it is not asked again
for a second, and everybody polls until it is back.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction

from windlass.db import Dialect, NewJob, channel
from windlass.exceptions import ConfigurationError
from windlass.jobs.wakeups import SOMETHING, Deaf, Ear, Wakeups

logger = logging.getLogger("windlass")

LOCAL = "redis://localhost:6379/0"
# Seconds that Redis may take to answer, and in which it is not asked after it did not.
PATIENCE, REST = 1.0, 1.0
# One note for each queue in this time: workers look for longer once they saw one.
TELL_EVERY = 0.01


class ByRedis(Wakeups):
    """Publishes to Redis, and listens there."""

    def __init__(self, alias: str, url: str | None) -> None:
        self.alias, self.url = alias, url or _configured()
        self._client: Any = None
        self._pid = 0
        self._lock = threading.Lock()
        self._told: dict[str, float] = {}
        self._rests_until = 0.0
        self._is_away = False

    def announce(self, jobs: Sequence[NewJob], db: Dialect) -> None:
        """See ``Wakeups``."""
        for queue in {job.queue_name for job in jobs}:
            at_commit(partial(self._tell_of, queue), db)

    def tell(self, channel: str, note: str, db: Dialect) -> None:
        """See ``Wakeups``."""
        at_commit(partial(self._publish, channel, note), db)

    def listen(
        self, *channels: str, db: Dialect, queues: Sequence[str] = ()
    ) -> Ear | None:
        """See ``Wakeups``."""
        patterns = [self._channel_of(_pattern(selector)) for selector in queues]
        return RedisEar(self, channels, patterns)

    def client(self) -> Any:
        """This process's client."""
        with self._lock:
            if self._pid != os.getpid():
                self._client, self._pid = connect(self.url), os.getpid()
            return self._client

    def _tell_of(self, queue: str) -> None:
        now = time.monotonic()
        if now - self._told.get(queue, 0.0) >= TELL_EVERY:
            if len(self._told) > 1000:
                self._told.clear()
            self._told[queue] = now
            self._publish(self._channel_of(queue), queue)

    def _channel_of(self, queue: str) -> str:
        return f"{channel(self.alias)}/queue/{queue}"

    def _publish(self, channel: str, note: str) -> None:
        if time.monotonic() < self._rests_until:
            return
        try:
            self.client().publish(channel, note)
        except _errors() as error:
            self.failed(error)
        else:
            self.answered()

    def failed(self, error: BaseException) -> None:
        """Note that Redis does not answer, and leave it alone for a while."""
        self._rests_until = time.monotonic() + REST
        if not self._is_away:
            self._is_away = True
            logger.warning(
                "Redis does not answer (%s). New jobs are found by polling until it "
                "does.",
                error,
            )

    def answered(self) -> None:
        """Note that Redis answers."""
        if self._is_away:
            self._is_away = False
            logger.warning("Redis answers again.")


class RedisEar:
    """Listens by a connection of its own."""

    def __init__(
        self, wakeups: ByRedis, channels: Sequence[str], patterns: Sequence[str]
    ) -> None:
        self.wakeups, self.channels, self.patterns = wakeups, channels, patterns
        self._subscription: Any = None

    def wait(self, seconds: float) -> list[str]:
        """See ``Ear``."""
        try:
            return self._wait(seconds)
        except _errors() as error:
            self.close()
            self.wakeups.failed(error)
            raise Deaf(str(error), for_good=False) from error

    def _wait(self, seconds: float) -> list[str]:
        if self._subscription is None:
            subscription = self.wakeups.client().pubsub(ignore_subscribe_messages=True)
            subscription.subscribe(*self.channels)
            if self.patterns:
                subscription.psubscribe(*self.patterns)
            self._subscription = subscription
            self.wakeups.answered()
            return [SOMETHING]
        deadline = time.monotonic() + seconds
        notes: list[str] = []
        while (message := self._next(notes, deadline)) is not None:
            if message:
                notes.append(message["data"].decode())
        return notes

    def _next(self, notes: list[str], deadline: float) -> Any:
        """The next message, an empty one for what is none, None when that is all."""
        left = 0.0 if notes else deadline - time.monotonic()
        if left < 0:
            return None
        found = self._subscription.get_message(timeout=left)
        if found is None:
            # Also what was ignored, so that the time may not be over yet.
            return None if notes or time.monotonic() >= deadline else {}
        return found

    def close(self) -> None:
        """See ``Ear``."""
        if self._subscription is not None:
            try:
                self._subscription.close()
            except _errors() as error:
                logger.debug("Closing a connection to Redis: %s", error)
            self._subscription = None


def _pattern(selector: str) -> str:
    """What Redis is asked for the queues of a selector; its own marks mean nothing."""
    name = re.sub(r"([\\*?\[\]])", r"\\\1", selector.removesuffix("*"))
    return f"{name}*" if selector.endswith("*") else name


def at_commit(action: Callable[[], None], db: Dialect) -> None:
    """Do something when the caller's transaction commits, or now if there is none."""
    if db.connection.in_atomic_block:
        transaction.on_commit(action, using=db.database, robust=True)
    else:
        action()


def connect(url: str) -> Any:
    """
    Make a client for a URL of redis-py, or for sentinels.

    ``sentinel://host:26379,host2:26379/service/0``; a password before ``@`` is that of
    Redis itself. Raises ConfigurationError without the package or for another URL.
    """
    redis = _package()
    options: dict[str, Any] = {
        "socket_timeout": PATIENCE,
        "socket_connect_timeout": PATIENCE,
    }
    password = getattr(settings, "REDIS_PASSWORD", None)
    if password:
        options["password"] = password
    try:
        if url.startswith("sentinel://"):
            return _by_sentinels(url, options)
        # A password in the URL is the more specific one.
        return redis.Redis.from_url(url, **options)
    except ValueError as error:
        raise ConfigurationError(f"redis_url is {_bare(url)!r}: {error}") from error


def _by_sentinels(url: str, options: dict[str, Any]) -> Any:
    from redis import sentinel as module

    # Its types are not said.
    make: Any = module.Sentinel
    parts = urlsplit(url)
    credentials, _at, hosts = parts.netloc.rpartition("@")
    service, _slash, number = parts.path.strip("/").partition("/")
    if not service or not hosts:
        raise ValueError("a sentinel URL is sentinel://host:port,host:port/service/0.")
    if credentials:
        options["password"] = credentials.partition(":")[2]
    places = [host.rpartition(":") for host in hosts.split(",")]
    sentinel = make(
        [(name, int(port)) for name, _colon, port in places],
        socket_timeout=PATIENCE,
    )
    return sentinel.master_for(service, db=int(number or 0), **options)


def _configured() -> str:
    url = getattr(settings, "REDIS_URL", None) or os.environ.get("REDIS_URL")
    return url or LOCAL


def _bare(url: str) -> str:
    """A URL without its password."""
    head, at, tail = url.rpartition("@")
    return f"{head.partition('://')[0]}://...@{tail}" if at else url


def _package() -> Any:
    try:
        import redis
    except ImportError as error:
        raise ConfigurationError(
            'wakeup is "redis", and the package redis is not installed: '
            'pip install "windlass[redis]".'
        ) from error
    return redis


def _errors() -> tuple[type[BaseException], ...]:
    return (_package().RedisError, OSError)
