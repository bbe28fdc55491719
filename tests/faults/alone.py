"""What a fault suite needs that runs as a program and not under pytest."""

import os
from contextlib import contextmanager

import django


@contextmanager
def own_database():
    """Set up Django and make the test database that the environment names."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    django.setup()
    from django.test.utils import setup_databases, teardown_databases

    made = setup_databases(verbosity=0, interactive=False)
    try:
        yield
    finally:
        teardown_databases(made, verbosity=0)


def report(broken, directory):
    """Print the broken promises, keep them all, and give back the exit code."""
    (directory / "broken").write_text("".join(f"{line}\n" for line in broken))
    print(*broken[:50], sep="\n")
    print(f"{len(broken)} BROKEN" if broken else "every promise was kept")
    return int(bool(broken))
