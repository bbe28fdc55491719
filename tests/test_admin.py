"""The admin: lists that stay fast, pages that tell all and change nothing."""

import re
from datetime import timedelta

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection
from django.urls import reverse

from tests import durable_tasks, tasks
from tests.running import run_ready
from windlass import api
from windlass.admin.reading import CAP, AtLeast, CappedPaginator
from windlass.models import Job, Node
from windlass.tasks_api import default_task_backend

pytestmark = pytest.mark.django_db
LIST = "admin:windlass_job_changelist"
COPY = """
    INSERT INTO windlass_ended (id, enqueued_at, node, claim, attempts, max_attempts,
           crashes, backend_alias, queue_name, task_path, args, kwargs, available_at,
           nice, state, reason, finished_at)
    SELECT id, enqueued_at, 1, 1, 1, 1, 0, backend_alias, queue_name, task_path, args,
           kwargs, available_at, nice, 'succeeded', '', available_at
      FROM windlass_live WHERE queue_name = 'done'
"""


@pytest.fixture
def browser(client, django_user_model):
    client.force_login(django_user_model.objects.create_superuser("boss"))
    return client


@pytest.fixture
def jobs():
    """One job of each kind, by name."""
    made = {
        "done": tasks.add.using(priority=3).enqueue(1, 2),
        "failed": tasks.boom.using(priority=2).enqueue("<script>alert(1)</script>"),
        "stubborn": tasks.stubborn.using(priority=2).enqueue(),
    }
    run_ready()
    made["running"] = tasks.remember.using(metadata={"k": "<b>"}).enqueue(a="<i>")
    made["claimed"] = api.claim_ready_jobs()[0]
    made["later"] = tasks.noop.using(run_after=timedelta(hours=1)).enqueue()
    made["ready"] = tasks.noop.using(queue_name="mail").enqueue()
    return made


def listed(response):
    assert response.status_code == 200
    return [str(job.pk) for job in response.context["cl"].result_list]


def page_of(browser, id, model="job"):
    return browser.get(reverse(f"admin:windlass_{model}_change", args=[id]))


# The list


def test_the_list_shows_live_and_ended_jobs_newest_first(browser, jobs):
    response = browser.get(reverse(LIST))

    expected = [jobs[n].id for n in ("ready", "later", "running", "stubborn")]
    assert listed(response) == [*expected, jobs["failed"].id, jobs["done"].id]
    text = response.content.decode()
    for state in ("ready", "scheduled", "running", "failed", "succeeded"):
        assert f'<td class="field-state">{state}</td>' in text
    assert f"…{jobs['done'].id[-12:]}" in text
    assert "6 jobs" in text


@pytest.mark.parametrize("many", [0, 1, 150])
def test_the_list_takes_the_same_few_queries_however_many_jobs(
    browser, many, django_assert_max_num_queries
):
    default_task_backend.enqueue_all([(tasks.noop, (), {})] * many)

    with django_assert_max_num_queries(4):  # session, user, count, page
        response = browser.get(reverse(LIST))

    assert len(listed(response)) == min(many, 100)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"state__exact": "failed"}, ["failed"]),
        ({"state__exact": "scheduled"}, ["later", "stubborn"]),
        ({"reason__exact": "error"}, ["failed"]),
        ({"queue_name": "mail"}, ["ready"]),
        ({"q": "tests.tasks.noop"}, ["ready", "later"]),
        ({"q": " tests.tasks.no "}, ["ready", "later"]),
        ({"q": "noop"}, []),
        ({"q": "'; DROP TABLE windlass_live; --"}, []),
        ({"q": "tests.tasks.noop", "state__exact": "ready"}, ["ready"]),
    ],
)
def test_the_list_can_be_narrowed(browser, jobs, query, names):
    response = browser.get(reverse(LIST), query)

    assert listed(response) == [jobs[name].id for name in names]


def test_an_id_is_found_in_any_spelling(browser, jobs):
    for name in ("done", "ready"):
        id = jobs[name].id
        for spelling in (id, id.upper(), id.replace("-", ""), f" {id} "):
            assert listed(browser.get(reverse(LIST), {"q": spelling})) == [id]


def test_no_distinct_and_no_uncapped_count_is_asked(browser, jobs):
    from django.test.utils import CaptureQueriesContext

    for query in ({}, {"_facets": "True"}, {"q": "tests"}, {"state__exact": "ready"}):
        with CaptureQueriesContext(connection) as captured:
            browser.get(reverse(LIST), query)
        for statement in (q["sql"] for q in captured.captured_queries):
            assert "DISTINCT" not in statement
            if "COUNT" in statement and "windlass" in statement:
                assert f"LIMIT {CAP + 1}" in statement


# The count


def test_a_count_stops_at_the_cap(browser, monkeypatch):
    monkeypatch.setattr("windlass.admin.reading.CAP", 150)
    default_task_backend.enqueue_all([(tasks.noop, (), {})] * 250)

    text = browser.get(reverse(LIST)).content.decode()

    assert "150+ jobs" in re.sub(r"\s+", " ", text)
    assert len(listed(browser.get(reverse(LIST), {"p": 2}))) == 50
    assert browser.get(reverse(LIST), {"p": 3}).status_code == 302
    found = browser.get(reverse(LIST), {"q": "tests."}).content.decode()
    assert "150+ results" in found


def test_a_capped_count_is_a_number_that_says_so(settings):
    count = AtLeast(CAP)

    assert (str(count), f"{count}", count + 1) == ("10000+", "10000+", CAP + 1)
    settings.USE_THOUSAND_SEPARATOR = True
    assert str(count) == "10000"


def test_a_short_list_is_counted_exactly():
    for _ in range(3):
        tasks.noop.enqueue()

    paginator = CappedPaginator(Job.objects.order_by("-id"), 2)

    assert (paginator.count, str(paginator.count), paginator.num_pages) == (3, "3", 2)


# The pages


def test_a_page_shows_the_whole_story_escaped(browser, jobs):
    text = page_of(browser, jobs["failed"].id).content.decode()

    assert "ValueError: boom" in text
    assert "Traceback (most recent call last)" in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script>alert(1)" not in text
    text = page_of(browser, jobs["running"].id).content.decode()
    assert "&lt;b&gt;" in text
    assert "&lt;i&gt;" in text


@pytest.mark.parametrize("name", ["done", "failed", "stubborn", "later", "ready"])
def test_every_job_has_a_page(browser, jobs, name, django_assert_max_num_queries):
    with django_assert_max_num_queries(4):  # session, user, job, memos
        response = page_of(browser, jobs[name].id)

    assert response.status_code == 200
    assert jobs[name].id in response.content.decode()


def test_a_page_without_a_job_leads_back(browser):
    for id in ("01890000-0000-7000-8000-000000000000", "nonsense"):
        assert page_of(browser, id).status_code == 302


# Nothing changes


def test_nothing_can_be_added_changed_or_deleted(browser, jobs):
    id = jobs["done"].id
    for model in ("job", "node"):
        assert browser.get(reverse(f"admin:windlass_{model}_add")).status_code == 403
    delete = reverse("admin:windlass_job_delete", args=[id])
    assert browser.post(delete, {"post": "yes"}).status_code == 403
    change = reverse("admin:windlass_job_change", args=[id])
    assert browser.post(change, {"state": "failed"}).status_code == 403
    act = {"action": "delete_selected", "_selected_action": [id]}
    browser.post(reverse(LIST), act)
    text = page_of(browser, id).content.decode()
    assert 'name="_save"' not in text
    assert Job.objects.filter(pk=id).exists()


def test_who_may_not_view_jobs_sees_none(client, jobs):
    client.force_login(User.objects.create_user("guest", is_staff=True))

    assert client.get(reverse(LIST)).status_code == 403
    assert page_of(client, jobs["done"].id).status_code == 403


def test_both_models_are_in_the_admin_by_themselves():
    assert admin.site.is_registered(Job)
    assert admin.site.is_registered(Node)


def test_nodes_are_listed_and_shown(browser, jobs):
    node = Node.objects.get()

    listing = browser.get(reverse("admin:windlass_node_changelist"))

    assert [found.pk for found in listing.context["cl"].result_list] == [node.pk]
    assert "script" in page_of(browser, node.pk, "node").content.decode()


# Plans


def test_the_newest_jobs_are_read_from_both_primary_keys():
    done = tasks.noop.using(queue_name="done")
    backend = default_task_backend
    backend.enqueue_all([(done, (), {}), (tasks.noop, (), {})] * 20_000)
    with connection.cursor() as cursor:
        cursor.execute(COPY)
        cursor.execute("DELETE FROM windlass_live WHERE queue_name = 'done'")
        if connection.vendor != "mysql":
            cursor.execute("ANALYZE windlass_live")
            cursor.execute("ANALYZE windlass_ended")
    newest = Job.objects.order_by("-id")[:100]
    one = Job.objects.filter(pk=newest[50].pk)

    found = [job.pk for job in newest]
    assert found == sorted(found, reverse=True)
    assert {job.queue_name for job in newest} == {"done", "default"}
    assert [job.pk for job in one] == [found[50]]
    if connection.vendor == "postgresql":
        for query in (newest, one):
            plan = query.explain()
            assert "windlass_live_pkey" in plan
            assert "windlass_ended_pkey" in plan
            assert "Sort  (cost" not in plan
            assert "Seq Scan" not in plan
    elif connection.vendor == "sqlite":
        plan = newest.explain()
        assert "MERGE (UNION ALL)" in plan
        assert "TEMP B-TREE" not in plan
        assert one.explain().count("SEARCH") == 2
    else:
        # MariaDB reads both tables by key for one job; it sorts all for the list.
        assert "windlass_ended ALL" not in one.explain()
        assert "windlass_live ALL" not in one.explain()


def test_the_page_of_a_job_shows_what_it_recorded(browser):
    result = durable_tasks.order.enqueue("<b>")
    run_ready()

    text = page_of(browser, result.id).content.decode()

    assert "charge (the result of a step)" in text
    assert "parcel &lt;b&gt;" in text
