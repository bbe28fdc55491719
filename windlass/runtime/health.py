"""
What is healthy: whether the parts of a runtime live, and whether they can work.

``look`` reads what the database knows about one backend at one moment. The rules
judge that picture and what the nodes wrote beside their heartbeats (see
``evidence``); each gives back its reasons, one line for each thing that is wrong:
what, where, and what to do. No reason is health.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from windlass import conf, db
from windlass.conf import Options
from windlass.db import rare
from windlass.jobs import queues
from windlass.models import Node
from windlass.models.history import worker_id

# Beyond shutdown_timeout, a stopping process has this long for its last records.
LAST_RECORDS = 15.0


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One backend as the database shows it at one moment."""

    options: Options
    now: datetime
    max_age: float
    nodes: Sequence[Node]
    # How many running jobs each node holds, registered or not.
    holdings: Mapping[int, int]
    # The queues on which a job is ready for longer than max_age, and since when.
    ready_since: Mapping[str, datetime]

    def age(self, node: Node) -> float:
        """Seconds since a node's last heartbeat."""
        return max(0.0, (self.now - node.heartbeat_at).total_seconds())

    def lives(self, node: Node) -> bool:
        """Whether a node's heartbeat is fresh."""
        return self.age(node) <= self.max_age

    def living(self, kind: str) -> list[Node]:
        """The nodes of one kind whose heartbeat is fresh."""
        return [node for node in self.nodes if node.kind == kind and self.lives(node)]

    def serves(self, worker: Node) -> bool:
        """Whether a worker looks for jobs: its claim loop turns."""
        said = worker.details
        # It waits for this long on purpose. A worker that has said nothing yet is new.
        allowed = self.max_age + said.get("polling_interval", 0.0)
        return bool((said.get("turned_ago") or 0.0) <= allowed)


def look(options: Options, *, max_age: float, deep: bool) -> Picture:
    """Read what the rules need; the jobs only for a deep look."""
    own = db.dialect(options.database_alias)
    now = own.now()
    holdings: dict[int, int] = {}
    ready_since: dict[str, datetime] = {}
    if deep:
        # Jobs before nodes: one that registers and claims in between must be seen.
        holdings = rare.holdings(own, options.alias)
        before = now - timedelta(seconds=max_age)
        ready_since = rare.ready_since(own, options.alias, before=before)
    registered = Node.objects.using(options.database_alias)
    nodes = list(registered.filter(backend_alias=options.alias).order_by("started_at"))
    for node in holdings.keys() - {node.pk for node in nodes}:
        # One that has put all down and left in between must not.
        if not rare.held_by(own, node, limit=1):
            del holdings[node]
    return Picture(
        options=options,
        now=now,
        max_age=max_age,
        nodes=nodes,
        holdings=holdings,
        ready_since=ready_since,
    )


def reasons(picture: Picture, *, deep: bool, version: str | None = None) -> list[str]:
    """Why this backend is not healthy; nothing if it is."""
    if not any(map(picture.lives, picture.nodes)):
        return [_nobody_lives(picture)]
    rules = list(DEEP) if deep else []
    found = [reason for rule in rules for reason in rule(picture)]
    return found + ([] if version is None else list(_versions(picture, version)))


def described(picture: Picture, node: Node) -> dict[str, Any]:
    """A node as JSON shows it."""
    return {
        "id": worker_id(node.pk),
        "kind": node.kind,
        "name": node.name,
        "host": node.host,
        "pid": node.pid,
        "version": node.version,
        "heartbeat_age": round(picture.age(node), 1),
        "live": picture.lives(node),
        "jobs": picture.holdings.get(node.pk, 0),
        "details": node.details,
    }


def _nobody_lives(picture: Picture) -> str:
    silent = ", ".join(
        f"{node} for {picture.age(node):.0f} s" for node in picture.nodes
    )
    return (
        f"No node of the backend {picture.options.alias!r} has had a heartbeat in the "
        f"last {picture.max_age:g} s"
        + (f" (silent: {silent})" if silent else "")
        + ". Start manage.py windlass, or read its log for why it cannot beat."
    )


def _heartbeats(picture: Picture) -> Iterator[str]:
    for node in picture.nodes:
        if not picture.lives(node):
            held = picture.holdings.get(node.pk, 0)
            yield (
                f"{node}: no heartbeat for {picture.age(node):.0f} s, and it holds "
                f"{_jobs(held)}. Look there for a process that is suspended, starved "
                "or cut off from the database; a dispatcher recovers its jobs after "
                f"{picture.options.process_alive_threshold:g} s."
            )


def _claim_loops(picture: Picture) -> Iterator[str]:
    for node in picture.living(Node.Kind.WORKER):
        if picture.serves(node):
            continue
        ago = node.details["turned_ago"]
        if node.details.get("stopping"):
            patience = picture.options.shutdown_timeout + LAST_RECORDS
            if ago > patience:
                yield (
                    f"{node}: it has been stopping for {ago:.0f} s, and should have "
                    f"ended after {patience:g} s. Kill it (SIGKILL); what it holds is "
                    "recovered."
                )
        elif node.details.get("database_away"):
            yield (
                f"{node}: its claim loop has had no answer from the database for "
                f"{ago:.0f} s. Look at the log of that process for the error."
            )
        else:
            yield (
                f"{node}: its claim loop has not turned for {ago:.0f} s, so it takes "
                "no jobs. Look at what its main thread does (py-spy dump), or kill it "
                "(SIGKILL): what it holds is recovered."
            )


def _event_loops(picture: Picture) -> Iterator[str]:
    for node in picture.living(Node.Kind.WORKER):
        silent = node.details.get("loop_silent_for") or 0.0
        if silent > picture.max_age:
            yield (
                f"{node}: its event loop has not turned for {silent:.0f} s, so no "
                "coroutine task goes on. One of them blocks it (py-spy dump says "
                "which): make that task a plain function."
            )


def _services(picture: Picture) -> Iterator[str]:
    dispatchers = picture.living(Node.Kind.DISPATCHER)
    for node in dispatchers:
        for service, late in node.details.get("late", {}).items():
            if late > picture.max_age:
                yield (
                    f"{node}: its {service} has owed a tick for {late:.0f} s. Look at "
                    "the log of that process for the error."
                )
    if not dispatchers:
        yield (
            f"No dispatcher of the backend {picture.options.alias!r} lives, so nobody "
            "recovers the jobs of hosts that die. Start one: manage.py windlass "
            "--only-dispatch."
        )


def _owners(picture: Picture) -> Iterator[str]:
    for node in picture.holdings.keys() - {node.pk for node in picture.nodes}:
        yield (
            f"{_jobs(picture.holdings[node])} of the node {worker_id(node)}, which is "
            "not registered: nobody runs them any more. A dispatcher recovers such "
            "jobs within a minute: see that one lives."
        )


def _slots(picture: Picture) -> Iterator[str]:
    for node in picture.living(Node.Kind.WORKER):
        for slots, stuck in (
            ("threads", "stuck_threads"),
            ("async_concurrency", "stuck_coroutines"),
        ):
            count = node.details.get(stuck, 0)
            if count and count >= node.details[slots]:
                named = ", ".join(
                    f"{each['task']} ({each['job']}, for {each['seconds']:.0f} s)"
                    for each in node.details["overdue"]
                )
                yield (
                    f"{node}: each of its {count} slots ({slots}) is stuck with a job "
                    f"past its timeout: {named}. Restart that process (SIGTERM): it "
                    "hands back what may run again."
                )


def _queues(picture: Picture) -> Iterator[str]:
    workers = filter(picture.serves, picture.living(Node.Kind.WORKER))
    served = [name for node in workers for name in node.details.get("queues", ())]
    wanted = configured(picture.options)
    for queue in wanted:
        # A prefix is covered by itself and by any shorter one, as a name is.
        if queues.rank(served, queue) < 0:
            yield (
                f"No live worker serves the queue {queue!r}, which the settings name. "
                "Start a worker for it, or take it out of TASKS"
                f"[{picture.options.alias!r}]."
            )
    for queue, since in picture.ready_since.items():
        if queue not in wanted and queues.rank(served, queue) < 0:
            waits = (picture.now - since).total_seconds()
            yield (
                f"No live worker serves the queue {queue!r}, on which a job has been "
                f"ready for {waits:.0f} s. Start one: manage.py windlass --queues "
                f"{queue}."
            )


def configured(options: Options) -> list[str]:
    """The queues that the settings promise to serve: names and prefixes."""
    selectors = [name for worker in options.workers for name in worker.queues]
    # Without QUEUES, Django's own list is what may be enqueued, not what is served.
    listed = options.queues if "QUEUES" in conf.params(options.alias) else ()
    if listed:
        # Then no other queue exists, and a prefix promises nothing beyond the list.
        selectors = [name for name in selectors if not name.endswith("*")]
    return list(dict.fromkeys([*listed, *selectors]))


def _versions(picture: Picture, version: str) -> Iterator[str]:
    for node in picture.nodes:
        if picture.lives(node) and node.version != version:
            yield (
                f"{node}: it runs Windlass {node.version}, and {version} is required. "
                "Restart the runtime there with the new code."
            )


def _jobs(count: int) -> str:
    return "1 running job" if count == 1 else f"{count} running jobs"


DEEP = (_heartbeats, _claim_loops, _event_loops, _services, _owners, _slots, _queues)
