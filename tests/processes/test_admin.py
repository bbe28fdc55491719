"""Processes in the admin, and their log in a browser."""

import json

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Permission
from django.urls import reverse

from tests.processes.models import Report
from windlass.processes import views
from windlass.processes.admin import LAST
from windlass.processes.ansi import parts

pytestmark = pytest.mark.django_db
EAGER = {"BACKEND": "windlass.processes.backends.eager.EagerBackend"}


@pytest.fixture(autouse=True)
def eager(settings):
    settings.WINDLASS_PROCESSES = EAGER


@pytest.fixture
def boss(client, django_user_model):
    client.force_login(django_user_model.objects.create_superuser("boss"))
    return client


@pytest.fixture
def viewer(client, django_user_model):
    """Staff who may view reports, and nothing else."""
    user = django_user_model.objects.create_user("viewer", is_staff=True)
    names = ("view_report", "view_reportlog")
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client.force_login(user)
    return client


@pytest.fixture
def report():
    report = Report.objects.create(kind="count", given={"lines": 2 * LAST})
    report.execute()
    return report


def address(name, report, label="processes.report"):
    return reverse(f"windlass_processes:{name}", args=[label, report.pk])


def act(client, action, *reports):
    data = {"action": action, "_selected_action": [each.pk for each in reports]}
    url = reverse("admin:processes_report_changelist")
    return client.post(url, data, follow=True)


def test_the_list_and_the_page_show_a_process(boss, report):
    listed = boss.get(reverse("admin:processes_report_changelist"))
    page = boss.get(reverse("admin:processes_report_change", args=[report.pk]))

    assert "succeeded" in listed.content.decode()
    text = page.content.decode()
    assert f"line {2 * LAST - 1}" in text
    assert "line 0<" not in text
    assert address("log", report) in text
    assert 'name="status"' not in text


def test_actions_start_cancel_and_restart(boss):
    fresh, done = Report.objects.create(), Report.objects.create(status="failed")

    act(boss, "cancel_selected", fresh)
    act(boss, "start_selected", done)
    act(boss, "restart_selected", fresh)

    assert {each.status for each in Report.objects.all()} == {"succeeded"}


def test_an_action_says_what_it_could_not_do(boss, report):
    response = act(boss, "cancel_selected", report)

    assert "it has ended" in response.content.decode()


def test_who_may_only_view_is_offered_no_action(viewer, report):
    response = act(viewer, "restart_selected", report)

    assert "restart_selected" not in response.content.decode()
    report.refresh_from_db()
    assert report.run_number == 0
    assert report.attempts == 1


def test_the_page_of_a_log_has_the_last_lines_escaped(viewer, report, monkeypatch):
    monkeypatch.setattr(views, "LAST", 10)
    report.log("<script>alert(1)</script> \x1b[31mred\x1b[0m")

    text = viewer.get(address("log", report)).content.decode()

    assert "&lt;script&gt;alert(1)" in text
    assert '<span class="ansi-red">red</span>' in text
    assert "\x1b" not in text
    assert text.count("<li ") == 10
    assert "93 earlier lines are not shown" in text


def events(response):
    """The events of a stream: (id, kind, data)."""
    text = b"".join(response.streaming_content).decode()
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        if "event" in fields:
            yield fields.get("id"), fields["event"], json.loads(fields["data"])


def test_a_stream_goes_on_after_the_last_line_that_a_browser_has(viewer, report):
    response = viewer.get(address("log_stream", report), {"after": 99})
    again = viewer.get(address("log_stream", report), headers={"Last-Event-ID": "101"})

    assert response["Content-Type"] == "text/event-stream"
    ids = [id for id, _kind, _data in events(response)]
    assert ids == ["100", "101", "102", None]
    ((id, _kind, data), _end) = events(again)
    assert (id, data["sequence"]) == ("102", 102)
    assert data["parts"] == [["", "Finished."]]


def test_a_stream_says_the_end_when_there_is_no_more(viewer, report):
    response = viewer.get(address("log_stream", report), {"after": 102})

    assert list(events(response)) == [(None, "end", {"status": "succeeded"})]


def test_progress_is_told_as_json(viewer):
    report = Report.objects.create(kind="progress", given={"total": 4})
    report.execute()

    said = viewer.get(address("progress", report)).json()

    assert said["status"] == "succeeded"
    assert said["progress"]["percent"] == 100


@pytest.mark.parametrize("name", ["log", "log_stream", "progress"])
def test_who_may_not_view_a_process_sees_nothing_of_it(
    client, django_user_model, report, name
):
    assert client.get(address(name, report)).status_code == 403
    client.force_login(django_user_model.objects.create_user("somebody"))
    assert client.get(address(name, report)).status_code == 403


@pytest.mark.parametrize("name", ["log", "log_stream", "progress"])
def test_what_is_no_process_is_not_found(boss, report, name):
    for label in ("auth.user", "nothing.here", "nonsense"):
        assert boss.get(address(name, report, label)).status_code == 404
    url = address(name, report).replace(f"/{report.pk}/", "/x/")
    assert boss.get(url).status_code == 404
    assert boss.post(address(name, report)).status_code == 405


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("plain", [("", "plain")]),
        ("\x1b[1;31mbad\x1b[0m ok", [("ansi-bold ansi-red", "bad"), ("", " ok")]),
        ("\x1b[31ma\x1b[32mb", [("ansi-red", "a"), ("ansi-green", "b")]),
        ("\x1b[31ma\x1b[39mb", [("ansi-red", "a"), ("", "b")]),
        ("\x1b[44;97mx", [("ansi-on-blue ansi-bright-white", "x")]),
        ("\x1b[38;5;196mx\x1b[38;2;1;2;3my", [("", "x"), ("", "y")]),
        ("\x1b[2J\x1b]0;title\x07up\x1b[Adown", [("", "updown")]),
        ("\x1b[999mx\x1b[m", [("", "x")]),
    ],
)
def test_colours_are_classes_and_other_codes_vanish(text, found):
    assert parts(text) == found


def test_a_stream_under_asgi_follows_to_the_end(report):
    async def read():
        return "".join([event async for event in views._follow(report, 100)])

    text = async_to_sync(read)()

    assert "id: 101" in text
    assert text.endswith('event: end\ndata: {"status": "succeeded"}\n\n')
