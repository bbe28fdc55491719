"""Schedules in the admin: to read, with the next run, and to change nothing."""

import pytest
from django.urls import reverse

from windlass import api
from windlass.models import Schedule

pytestmark = pytest.mark.django_db
LIST = "admin:windlass_schedule_changelist"


@pytest.fixture
def browser(client, django_user_model):
    client.force_login(django_user_model.objects.create_superuser("boss"))
    return client


@pytest.fixture
def schedule():
    return api.schedule_recurring_task(
        key="nightly",
        task_path="tests.tasks.noop",
        schedule="30 2 * * *",
        kwargs={"name": "<script>"},
    )


def test_the_list_shows_when_each_is_due_next(browser, schedule):
    Schedule.objects.update(last_error="There is no such task")

    text = browser.get(reverse(LIST), {"q": "night"}).content.decode()

    assert "nightly" in text
    assert "2:30 a.m." in text
    assert "There is no such task" in text


def test_its_page_shows_the_call_and_changes_nothing(browser, schedule):
    page = reverse("admin:windlass_schedule_change", args=[schedule.pk])
    text = browser.get(page).content.decode()

    assert "&lt;script&gt;" in text
    assert "<script>&quot;" not in text
    assert "<input type=submit" not in text
    assert browser.post(page, {"key": "other"}).status_code == 403
    assert Schedule.objects.get().key == "nightly"
