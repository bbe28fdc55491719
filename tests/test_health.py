"""The rules of health: what they say of a picture that a test has drawn."""

from datetime import timedelta

import pytest
from django.utils import timezone

from windlass import conf
from windlass.models import Node
from windlass.runtime import health
from windlass.runtime.dispatcher import Dispatcher
from windlass.runtime.health import Picture
from windlass.runtime.service import serve

NOW = timezone.now()
BACKEND = "windlass.backend.WindlassBackend"


@pytest.fixture
def configure(settings):
    """Write the entry of TASKS and give back what was read."""

    def configure(*queues, **entry):
        options = {"workers": [{"queues": list(queues or ["*"])}]}
        settings.TASKS = {"default": {"BACKEND": BACKEND, "OPTIONS": options, **entry}}
        return conf.options("default")

    return configure


def worker(*queues, silent_for=0.0, id=1, **details):
    said = {"queues": list(queues or ["*"]), "threads": 1, "async_concurrency": 1}
    return node(Node.Kind.WORKER, id, silent_for, {**said, **details})


def dispatcher(silent_for=0.0, **details):
    return node(Node.Kind.DISPATCHER, 2, silent_for, details)


def node(kind, id, silent_for, details):
    return Node(
        id=id,
        kind=kind,
        name=str(kind),
        host="here",
        pid=4711,
        heartbeat_at=NOW - timedelta(seconds=silent_for),
        version="1.0",
        details=details,
    )


@pytest.fixture
def judge(configure):
    """What the deep rules say of these nodes, with a maximal age of 30 seconds."""

    def judge(*nodes, options=None, version=None, **jobs):
        picture = Picture(
            options=options or configure(),
            now=NOW,
            max_age=30,
            nodes=[*nodes, dispatcher()] if nodes else [],
            holdings=jobs.get("holdings", {}),
            ready_since=jobs.get("ready_since", {}),
        )
        return health.reasons(picture, deep=True, version=version)

    return judge


def test_a_node_that_has_said_nothing_yet_is_healthy(judge):
    assert judge(worker()) == []


def test_a_sign_of_life_is_good_for_max_age_and_no_longer(judge):
    assert judge(worker(turned_ago=30.0)) == []
    assert "claim loop has not turned for 31 s" in judge(worker(turned_ago=31.0))[0]
    assert judge(worker(silent_for=30)) == []
    assert "no heartbeat for 31 s" in judge(worker(silent_for=31))[0]


def test_a_worker_that_polls_seldom_may_turn_seldom(judge):
    assert judge(worker(turned_ago=80.0, polling_interval=60.0)) == []


def test_a_claim_loop_without_a_database_is_unhealthy_and_says_which_it_is(judge):
    first, _queue = judge(worker(turned_ago=31.0, database_away=31.0))

    assert "no answer from the database for 31 s" in first


def test_a_worker_may_take_its_time_to_stop_while_others_serve(judge):
    others = worker(id=3)
    draining = {"stopping": "asked", "turned_ago": 44.0}
    too_long = {"stopping": "asked", "turned_ago": 46.0}

    assert judge(worker(**draining), others) == []
    (reason,) = judge(worker(**too_long), others)
    assert "stopping for 46 s" in reason
    # A worker that stops takes no jobs, so alone it serves nothing.
    assert "No live worker serves the queue '*'" in judge(worker(**draining))[0]


def test_some_free_slots_are_enough(judge):
    overdue = [{"job": "a", "task": "shop.sync", "seconds": 99.0, "limit": 5.0}]
    stuck = {"threads": 2, "overdue": overdue}

    assert judge(worker(stuck_threads=1, **stuck)) == []
    (reason,) = judge(worker(stuck_threads=2, **stuck))
    assert "each of its 2 slots (threads)" in reason
    assert "shop.sync (a, for 99 s)" in reason


def test_coroutines_that_ignore_their_timeout_fill_slots_too(judge):
    (reason,) = judge(worker(stuck_coroutines=1, overdue=[]))

    assert "each of its 1 slots (async_concurrency)" in reason


def test_the_jobs_of_a_silent_node_are_counted(judge):
    silent = worker(silent_for=31)

    (reason,) = judge(silent, worker(id=3), holdings={1: 2, 3: 5})

    assert "it holds 2 running jobs" in reason


def test_a_holder_that_is_not_registered_is_named(judge):
    (reason,) = judge(worker(), holdings={255: 1})

    assert reason.startswith("1 running job of the node 00000000000000ff")


@pytest.mark.parametrize(
    ("configured", "entry", "served", "missing"),
    [
        (["*"], {}, ["*"], []),
        (["*"], {}, ["mail"], ["*"]),
        (["mail"], {}, ["mail"], []),
        (["mail"], {}, ["ma*"], []),
        (["mail"], {}, ["mails*"], ["mail"]),
        (["rep*"], {}, ["r*"], []),
        (["rep*"], {}, ["report*"], ["rep*"]),
        (["mail", "a"], {}, ["mail"], ["a"]),
        # Django's own default is what may be enqueued; nobody has configured it.
        (["mail"], {"MAX_ATTEMPTS": 1}, ["mail"], []),
        (["*"], {"QUEUES": []}, ["mail"], ["*"]),
        # A list says which queues there are, so a star means these.
        (["*"], {"QUEUES": ["mail", "a"]}, ["mail", "a"], []),
        (["*"], {"QUEUES": ["mail", "a"]}, ["mail"], ["a"]),
        (["mail"], {"QUEUES": ["mail", "a"]}, ["mail"], ["a"]),
    ],
)
def test_every_queue_that_the_settings_name_must_be_served(
    judge, configure, configured, entry, served, missing
):
    options = configure(*configured, **entry)

    found = judge(worker(*served), options=options)

    assert [reason.split("'")[1] for reason in found] == missing


def test_a_silent_worker_serves_nothing(judge):
    reasons = judge(worker(silent_for=31))

    assert any("No live worker serves" in reason for reason in reasons)


def test_a_queue_with_waiting_jobs_must_be_served_whatever_the_settings_say(
    judge, configure
):
    since = {"other": NOW - timedelta(seconds=99), "mail": NOW - timedelta(seconds=50)}

    found = judge(worker("mail"), options=configure("mail"), ready_since=since)

    (reason,) = found
    assert "'other', on which a job has been ready for 99 s" in reason


def test_only_live_nodes_need_the_version(judge):
    nodes = worker(), worker(id=3, silent_for=31)

    found = judge(*nodes, version="2.0")

    assert sum("2.0 is required" in reason for reason in found) == 2
    assert not [r for r in judge(*nodes, version="1.0") if "required" in r]


def test_without_a_live_node_there_is_one_reason(judge):
    (reason,) = judge()

    assert "Start manage.py windlass" in reason


def test_a_service_that_fails_owes_its_tick(configure):
    class Failing:
        name = "janitor"
        ticks = 0

        def tick(self):
            self.ticks += 1
            if self.ticks > 1:
                raise ValueError("no such luck")
            return 0.0

        def database_returned(self):
            """Nothing to learn."""

    part = Dispatcher(configure(), name="dispatcher", supervisor_pid=None)
    service = Failing()
    owed = []

    def wait(_seconds):
        owed.append(part.owed["janitor"])
        return len(owed) == 3

    # The second tick fails, and the third is not due yet: it is still owed.
    serve([service], part.db, wait=wait, owed=part.owed)

    assert owed[0] == owed[1] == owed[2]
    assert part._details()["late"]["janitor"] >= 0
