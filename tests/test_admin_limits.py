"""Concurrency limits in the admin: a page of keys, however many jobs wait."""

import uuid
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from tests import tasks
from tests.contract.rows import NODE
from tests.limited_tasks import one, per_account
from tests.running import make_claimer
from windlass import api, db
from windlass.admin import limits as page
from windlass.jobs.limits import Limits
from windlass.models import LiveJob, Slot, Waiter

pytestmark = pytest.mark.django_db(transaction=True)
LIST = "admin:windlass_waiter_changelist"


@pytest.fixture
def browser(client, django_user_model):
    client.force_login(django_user_model.objects.create_superuser("boss"))
    return client


@pytest.fixture
def busy():
    """One job of a key runs and two wait; both places of another key are taken."""
    for number in range(3):
        one.enqueue(number)
    for _place in range(2):
        per_account.enqueue("<b>")
    make_claimer(db.dialect("default"), NODE, Limits("default", {})).claim(10)


def shown(response):
    assert response.status_code == 200
    return {line.key: line for line in response.context["lines"]}


def test_each_key_says_who_holds_it_and_who_waits(browser, busy):
    response = browser.get(reverse(LIST))

    lines = shown(response)
    assert {key: (line.held, line.waiting) for key, line in lines.items()} == {
        "account:<b>": (2, 0),
        "one": (1, 2),
    }
    head = Waiter.objects.order_by("enqueued_at").first()
    assert (lines["one"].next, lines["one"].since) == (head.job, head.enqueued_at)
    text = response.content.decode()
    assert "account:&lt;b&gt;" in text
    assert reverse("admin:windlass_job_change", args=[head.job]) in text
    assert "Concurrency limits" in browser.get(reverse("admin:index")).content.decode()


def test_a_key_says_that_the_queue_of_the_next_is_paused(browser, busy):
    assert not shown(browser.get(reverse(LIST)))["one"].is_paused

    api.QueueInfo("default").pause()

    assert shown(browser.get(reverse(LIST)))["one"].is_paused


def test_without_keys_it_says_so(browser):
    assert "No key is in use." in browser.get(reverse(LIST)).content.decode()


def test_keys_come_in_pages(browser, monkeypatch):
    monkeypatch.setattr(page, "KEYS", 3)
    for number in range(5):
        Slot.objects.create(key=f"k&{number}", number=0, job=uuid.uuid4(), claim=1)

    first = browser.get(reverse(LIST))
    assert list(shown(first)) == ["k&0", "k&1", "k&2"]
    assert "?from=k%263" in first.content.decode()
    second = browser.get(reverse(LIST), {"from": first.context["following"]})
    assert list(shown(second)) == ["k&3", "k&4"]
    assert second.context["following"] is None
    assert shown(browser.get(reverse(LIST), {"from": "x\0'; --"})) == {}


@pytest.mark.parametrize("keys", [0, 1, 60])
def test_it_takes_the_same_few_queries_however_many_keys(
    browser, keys, django_assert_max_num_queries
):
    now = timezone.now()
    Waiter.objects.bulk_create(
        [
            Waiter(job=uuid.uuid4(), key=f"{number}", nice=0, enqueued_at=now)
            for number in range(keys)
        ]
    )

    # session, user, keys of two tables, counts, heads, their queues, pauses
    with django_assert_max_num_queries(8):
        response = browser.get(reverse(LIST))

    assert len(shown(response)) == min(keys, page.KEYS)


def test_counts_stop(browser, monkeypatch):
    monkeypatch.setattr(page, "MOST", 20)
    now = timezone.now()
    Waiter.objects.bulk_create(
        [
            Waiter(
                job=uuid.uuid4(),
                key="full",
                nice=0,
                enqueued_at=now + timedelta(seconds=number),
            )
            for number in range(50)
        ]
    )

    response = browser.get(reverse(LIST))

    assert shown(response)["full"].waiting == 20
    assert "<td>20+</td>" in response.content.decode()
    assert shown(response)["full"].since == now


@pytest.mark.skipif(connection.vendor != "postgresql", reason="about PostgreSQL")
def test_it_reads_little_beside_a_hundred_thousand_that_wait(browser):
    tasks.noop.using(queue_name="many").enqueue()
    row = LiveJob.objects.get()
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO windlass_waiter (job, key, nice, enqueued_at) SELECT"
            " gen_random_uuid(), 'key ' || mod(n, 3), 0, %s FROM"
            " generate_series(1, 100000) n",
            [row.enqueued_at],
        )
        cursor.execute("ANALYZE windlass_waiter")
    said = []

    def explain(execute, sql, params, many, context):
        if "windlass_waiter" in sql:
            execute(f"EXPLAIN (ANALYZE, BUFFERS) {sql}", params, many, context)
            said.extend(text for (text,) in context["cursor"].fetchall())
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        assert len(shown(browser.get(reverse(LIST)))) == 3

    assert said
    assert not [line for line in said if "Seq Scan on windlass_waiter" in line]


def test_only_who_may_view_waiters_sees_them(client, busy):
    guest = User.objects.create_user("guest", is_staff=True)
    client.force_login(guest)
    assert client.get(reverse(LIST)).status_code == 403

    guest.user_permissions.add(Permission.objects.get(codename="view_waiter"))

    assert set(shown(client.get(reverse(LIST)))) == {"account:<b>", "one"}


def test_nothing_can_be_changed(browser, busy):
    waiter = Waiter.objects.first()
    url = reverse("admin:windlass_waiter_change", args=[waiter.pk])

    assert browser.get(url).status_code == 200
    assert browser.post(url, {"key": "other"}).status_code == 403
    assert browser.get(reverse("admin:windlass_waiter_add")).status_code == 403
    delete = reverse("admin:windlass_waiter_delete", args=[waiter.pk])
    assert browser.post(delete, {"post": "yes"}).status_code == 403
    act = {"action": "delete_selected", "_selected_action": [waiter.pk]}
    browser.post(reverse(LIST), act)
    assert Waiter.objects.filter(pk=waiter.pk).exists()
