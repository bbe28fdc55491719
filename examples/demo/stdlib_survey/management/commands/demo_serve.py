"""
`manage.py demo_serve`: a web server and the runtime, until Ctrl-C or SIGTERM.

Both are real processes: `manage.py runserver` with Django admin, and
`manage.py windlass`. When one ends the other is stopped too.
"""

import secrets
import socket

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError

from stdlib_survey import programs, workdir

USERNAME = "demo"
POLL_SECONDS = 0.2


class Command(BaseCommand):
    help = "Serve Django admin and run jobs until stopped."

    def add_arguments(self, parser):
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *, port, **options):
        programs.treat_sigterm_as_ctrl_c()
        refuse_busy_port(port)
        with workdir.locked():
            workdir.prepare()
            password = new_login()
            address = f"127.0.0.1:{port}"
            try:
                self.serve(address, password)
            except KeyboardInterrupt:
                self.stdout.write("\nStopped the web server and the runtime.")

    def serve(self, address, password):
        with (
            programs.manage("runserver", "--noreload", address, DEMO_DEBUG="1") as web,
            programs.manage("windlass") as runtime,
        ):
            while not answers(address):
                watch(web, runtime)
            self.say(
                f"\nStart a survey:  http://{address}/\n"
                f"Django admin:    http://{address}/admin/\n"
                f"Login:           {USERNAME}   password: {password}\n"
                "Stop both with Ctrl-C.\n"
            )
            while True:
                watch(web, runtime)

    def say(self, text):
        self.stdout.write(text)
        self.stdout.flush()


def refuse_busy_port(port):
    """Say so at once when something else listens there, not after the start."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise CommandError(
                f"Port {port} cannot be used ({error.strerror}): "
                "choose another with `make demo-serve PORT=8001`."
            ) from None


def new_login():
    """Give the demo's user a fresh password, and return it."""
    password = secrets.token_urlsafe(9)
    user, _ = get_user_model().objects.get_or_create(
        username=USERNAME, defaults={"is_staff": True, "is_superuser": True}
    )
    user.set_password(password)
    user.save()
    return password


def answers(address):
    """Say whether the web server accepts connections."""
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def watch(*processes):
    """Wait a moment; fail if one of them has ended by itself."""
    for process in processes:
        if programs.ended_within(process, POLL_SECONDS):
            raise CommandError(
                f"{process.args[2]} ended by itself with exit code "
                f"{process.returncode}; the other was stopped too."
            )
