"""
The doctor's look at concurrency limits and fair shares: who waits, and for nothing.

It looks at a number of keys that is given, so it is quick beside a million that wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from windlass import db
from windlass.conf import Options
from windlass.db import limit_lines
from windlass.db.shares import shares
from windlass.management.finding import Finding
from windlass.models import Node

# The keys that are looked at, and the waiters that are counted of each.
KEYS, WAITERS = 1_000, 1_000
SHOWN = 5
LANES, SHARES = 100, 1_000
SWEEP = "See that a dispatcher lives: it looks at every key in turn. Its log has why."


def limits(options: Options) -> Iterator[Finding]:
    """Which keys are full, which are waited for in vain, and whose places are lost."""
    own = db.dialect(options.database_alias)
    yield from _places(own, options)
    keys = limit_lines.waiting_keys(own, limit=KEYS)
    found = limit_lines.lines(own, keys, most=WAITERS)
    idle = [line.key for line in found if not line.held and not line.is_paused]
    if idle:
        yield Finding(
            "limits",
            "warning",
            f"Jobs wait for {len(idle)} keys of which no place is taken: "
            f"{_some(idle)}.",
            SWEEP,
        )
    for line in sorted(found, key=lambda line: -line.waiting)[:SHOWN]:
        since = f", the next since {line.since}" if line.since else ""
        paused = "; its queue is paused" if line.is_paused else ""
        said = f"{_count(line.waiting, WAITERS)} wait for {line.key!r}{since}"
        yield Finding("limits", "ok", f"{said}; {line.held} places are taken{paused}.")
    if not found:
        yield Finding("limits", "ok", "Nobody waits for a key.")


def _places(own: db.Dialect, options: Options) -> Iterator[Finding]:
    lost = limit_lines.without_claim(own)
    if lost:
        yield Finding(
            "limits",
            "warning",
            f"{lost} places of keys belong to jobs that nobody runs.",
            SWEEP,
        )
    nodes = Node.objects.using(options.database_alias)
    alive = own.now() - timedelta(seconds=options.process_alive_threshold)
    living = nodes.filter(heartbeat_at__gte=alive)
    dead = limit_lines.held_by_others(own, set(living.values_list("id", flat=True)))
    if dead:
        yield Finding(
            "limits",
            "warning",
            f"{dead} places of keys are held by nodes that do not live.",
            "A dispatcher rescues their jobs, which frees the places: see that one "
            "lives.",
        )


def lanes_with_shares(options: Options) -> Iterator[Finding]:
    """How many shares have jobs in each lane that has any."""
    own = db.dialect(options.database_alias)
    for queue_name, nice in own.lanes(options.alias)[:LANES]:
        found = shares(own, options.alias, (queue_name, nice), limit=SHARES)
        if found:
            said = f"{_count(len(found), SHARES)} shares ({_some(found)}) have jobs"
            yield Finding("shares", "ok", f"{said} in {queue_name}, priority {-nice}.")


def _count(number: int, most: int) -> str:
    return f"{number}+" if number >= most else str(number)


def _some(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:SHOWN]))
    return f"{shown}, ..." if len(names) > SHOWN else shown
