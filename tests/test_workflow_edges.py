"""Workflows at their edges: the admin, the checks, coroutines."""

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Permission, User
from django.db import router
from django.urls import reverse

from tests import flow_tasks as tasks
from tests.flows import drain
from windlass.workflows import Workflow, chain
from windlass.workflows.checks import check_tables
from windlass.workflows.models import WorkflowRun

LIST = "admin:windlass_workflows_workflowrun_changelist"
PAGE = "admin:windlass_workflows_workflowrun_change"


@pytest.fixture
def run(db):
    flow = Workflow("import", workspace={"colour": "<red>"})
    first = flow.add(tasks.fail, name="first")
    flow.add(tasks.give, depends_on=first, name="second")
    return flow.enqueue()


def user(*permissions):
    made = User.objects.create_user("operator", is_staff=True)
    names = [f"{each}_workflowrun" for each in permissions]
    made.user_permissions.set(Permission.objects.filter(codename__in=names))
    return made


def act(client, name, run):
    asked = {"action": name, "_selected_action": [str(run.pk)]}
    return client.post(reverse(LIST), asked, follow=True)


def test_the_admin_shows_runs_and_their_members(client, run):
    client.force_login(user("view"))
    drain()

    listed = client.get(reverse(LIST), {"q": "imp"}).content.decode()
    shown = client.get(reverse(PAGE, args=[run.pk])).content.decode()

    assert "import" in listed
    assert "first is failed" in shown
    assert "&lt;red&gt;" in shown
    assert "2 / 2" in shown


def test_who_may_change_runs_may_cancel_and_retry_them(client, run):
    client.force_login(user("view", "change"))

    act(client, "cancel_runs", run)
    run.refresh()
    assert (run.state, run.cancel_reason) == ("cancelled", "by operator")

    act(client, "retry_runs", run)
    run.refresh()
    assert run.state == "running"


def test_who_may_only_look_may_do_nothing(client, run):
    client.force_login(user("view"))

    act(client, "cancel_runs", run)

    run.refresh()
    assert run.state == "running"


class OnlyJobs:
    def allow_migrate(self, db, app_label, **hints):
        return app_label != "windlass_workflows"


def test_tables_that_are_kept_from_the_jobs_database_are_reported(monkeypatch):
    assert check_tables() == []
    monkeypatch.setattr(router, "routers", [OnlyJobs()])

    (message,) = check_tables()

    assert message.id == "windlass.workflows.E001"


def test_coroutines_have_twins(committed):
    async def life():
        run = await chain(tasks.give.s(1), tasks.add.s(1)).aenqueue()
        await run.acancel("no more")
        await run.aretry()
        return run, await run.wait_async(timeout=0)

    run, is_over = async_to_sync(life)()

    assert not is_over
    drain()
    assert async_to_sync(run.wait_async)(timeout=5)
    assert async_to_sync(run.aresult)("add") == 2
    assert WorkflowRun.objects.get().state == "succeeded"
