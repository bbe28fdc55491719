"""
Real workers of Celery, and the brokers between them and a test.

A fleet is two workers, one for each queue, as the guide advises. It belongs to a module
of tests, because it starts slowly; its queues have names of their own.
"""

import json
import os
import subprocess
import sys
import uuid
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest

from tests.integration.runtime import ROOT, Runtime, environment
from tests.servers import Redis, private
from tests.waiting import eventually

CI = os.environ.get("CI") == "true"
Celery = (import_module if CI else pytest.importorskip)("celery").Celery
AMQP = os.environ.get("WINDLASS_TEST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672//")
# So that a test sees in a second what takes a minute.
QUICK = {"worker_lost_wait": 1.0}


def _missing(what):
    if CI:
        pytest.fail(f"{what} is missing, and CI must have it")
    pytest.skip(f"needs {what}")


@contextmanager
def redis():
    """The address of a Redis of our own."""
    if not Redis.exists():
        _missing("redis-server")
    with private(Redis) as server:
        yield server.url


@contextmanager
def rabbitmq():
    """The address of the machine's RabbitMQ."""
    from kombu import Connection
    from kombu.exceptions import OperationalError

    try:
        with Connection(AMQP) as connection:
            connection.ensure_connection(max_retries=1)
    except OperationalError as error:
        _missing(f"RabbitMQ at {AMQP} ({error})")
    yield AMQP


BROKERS = {"redis": redis, "rabbitmq": rabbitmq}


class Fleet:
    """Two workers, and what their project says."""

    def __init__(self, url, folder, **processes):
        own = uuid.uuid4().hex[:8]
        self.folder = folder
        self.celery = {
            **QUICK,
            "broker_url": url,
            "control_exchange": f"windlass-{own}",
            "event_queue_prefix": f"windlass-{own}",
            "broker_connection_retry_on_startup": True,
            "worker_hijack_root_logger": True,
        }
        self.processes = {
            "BACKEND": "windlass.contrib.celery.CeleryBackend",
            "QUEUE": f"processes-{own}",
            "SUPERVISOR_QUEUE": f"supervisor-{own}",
            "KILL_TERM_RETRIES": 2,
            "KILL_TERM_WAIT_SECONDS": 0.3,
            **processes,
        }
        self.started, self.queues = [], []

    def worker(self, queue, name, *arguments):
        """Start a worker for a queue, and wait until it answers."""
        env = environment(
            self.folder / "journal",
            DJANGO_SETTINGS_MODULE="tests.contrib.project.settings",
            WINDLASS_TEST_PROCESSES=json.dumps(self.processes),
            WINDLASS_TEST_CELERY=json.dumps(self.celery),
        )
        worker = Worker(self.folder / f"{name}.log", queue, name, arguments, env)
        self.started.append(worker)
        self.queues.append(queue)
        eventually(
            lambda: " ready." in worker.said() or worker.process.poll() is not None,
            message=lambda: worker.said()[-5000:],
        )
        assert worker.process.poll() is None, worker.said()[-5000:]
        return worker

    def stop(self):
        """End what was started, and show what it said if a test fails."""
        for worker in self.started:
            worker.kill()
            print(f"--- {worker.output.name}")  # noqa: T201
            print(worker.said()[-20_000:])  # noqa: T201


class Worker(Runtime):
    """One ``celery worker``, from its start to its end."""

    def __init__(self, output, queue, name, arguments, env):
        self.output = Path(output)
        command = (
            *("-m", "celery", "-A", "tests.contrib.project", "worker", "-l", "INFO"),
            *("-Q", queue, "-n", f"{name}-{queue}@%h", "--without-gossip"),
            *("--without-mingle", "--without-heartbeat", *arguments),
        )
        with self.output.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self.process.pid


@contextmanager
def fleet(broker, folder, **processes):
    """Start two workers beside a broker; nothing of them is left."""
    with BROKERS[broker]() as url:
        found = Fleet(url, folder, **processes)
        try:
            found.runs = found.worker(found.processes["QUEUE"], "runs", "-c", "4")
            watch = found.processes["SUPERVISOR_QUEUE"]
            found.watches = found.worker(watch, "watches", "-c", "1")
            yield found
        finally:
            found.stop()
            _forget(found)


def _forget(found):
    from kombu import Connection

    with Connection(found.celery["broker_url"]) as connection:
        with connection.channel() as channel:
            for name in found.queues:
                channel.queue_delete(name)
                channel.exchange_delete(name)
            box = f"{found.celery['control_exchange']}.pidbox"
            for name in (box, f"reply.{box}"):
                channel.exchange_delete(name)
