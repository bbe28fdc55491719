"""
Ask the database servers of a CI run for something.

    servers.py check KIND                 postgresql, mysql, rabbitmq: is it there?
    servers.py with NAME COMMAND...       run beside a new PostgreSQL database
    servers.py drop RUN                   drop what a run has left behind

Where they are is said by the WINDLASS_TEST_* variables, as for the tests.
"""

import os
import subprocess
import sys
from contextlib import closing, suppress
from urllib.parse import quote

import kombu
import kombu.exceptions
import psycopg
import pymysql


def main(verb: str, *arguments: str) -> int:
    """Do one of the three things."""
    if verb == "check":
        return check(*arguments)
    if verb == "with":
        return beside(*arguments)
    if verb == "drop":
        return drop(*arguments)
    sys.exit(f"{__doc__}\nnot a verb: {verb}")


def check(kind: str) -> int:
    """Print the version of a server, or why it cannot be reached."""
    if kind == "rabbitmq":
        return check_rabbitmq()
    connect = {"postgresql": postgresql, "mysql": mysql}[kind]
    try:
        with closing(connect()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute("SELECT version()")
            print(f"    {kind}: {cursor.fetchone()[0]}")
    except (psycopg.OperationalError, pymysql.err.OperationalError) as error:
        print(f"    {kind}: {error}")
        return 1
    return 0


def check_rabbitmq() -> int:
    """Print that RabbitMQ is there, or why it cannot be reached."""
    url = os.environ["WINDLASS_TEST_AMQP_URL"]
    try:
        with kombu.Connection(url) as connection:
            connection.ensure_connection(max_retries=1)
            said = connection.connection.server_properties["version"]
    except kombu.exceptions.OperationalError as error:
        print(f"    rabbitmq: {error}")
        return 1
    print(f"    rabbitmq: {said}")
    return 0


def beside(name: str, *command: str) -> int:
    """Run a command beside a database of its own; both are gone afterwards."""
    with closing(postgresql()) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        try:
            env = {"DEMO_DATABASE_URL": address(name), "QUICKSTART_DATABASE": name}
            return subprocess.run(command, env={**os.environ, **env}).returncode
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def drop(run: str) -> int:
    """Drop every database with the run's token in its name, on servers that are up."""
    with suppress(psycopg.OperationalError), closing(postgresql()) as connection:
        names = connection.execute("SELECT datname FROM pg_database").fetchall()
        for name in (name for (name,) in names if run in name):
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    with suppress(pymysql.err.OperationalError), closing(mysql()) as connection:
        with closing(connection.cursor()) as cursor:
            cursor.execute("SHOW DATABASES")
            for name in (name for (name,) in cursor.fetchall() if run in name):
                cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")
    return 0


def address(name: str) -> str:
    """Spell a PostgreSQL database as an address."""
    user, password, host, port = (
        quote(os.environ.get(f"WINDLASS_TEST_PG_{part}", ""), safe="")
        for part in ("USER", "PASSWORD", "HOST", "PORT")
    )
    return f"postgresql://{user}:{password}@{host}:{port}/{name}"


def postgresql() -> psycopg.Connection:
    """Connect to the PostgreSQL server, each statement on its own."""
    return psycopg.connect(
        host=os.environ["WINDLASS_TEST_PG_HOST"],
        port=os.environ["WINDLASS_TEST_PG_PORT"],
        user=os.environ["WINDLASS_TEST_PG_USER"],
        password=os.environ["WINDLASS_TEST_PG_PASSWORD"],
        dbname="postgres",
        connect_timeout=10,
        autocommit=True,
    )


def mysql() -> pymysql.Connection:
    """Connect to the MariaDB or MySQL server."""
    return pymysql.connect(
        host=os.environ["WINDLASS_TEST_MYSQL_HOST"],
        port=int(os.environ["WINDLASS_TEST_MYSQL_PORT"]),
        user=os.environ["WINDLASS_TEST_MYSQL_USER"],
        password=os.environ["WINDLASS_TEST_MYSQL_PASSWORD"],
        connect_timeout=10,
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
