"""
The shares of a lane: which tenants, say, have jobs in it.

One statement asks for a few of them, beyond one that was served last, with one seek of
the claim's index for each; so it costs the same however many there are.
"""

from __future__ import annotations

from windlass.db.base import Dialect

_NEXT = """
    (SELECT MIN(share) FROM windlass_live WHERE backend_alias = %s
        AND queue_name = %s AND nice = %s AND share > {after})
"""
SHARES = f"""
    WITH RECURSIVE found (name, place) AS (
      SELECT {_NEXT.format(after="%s")}, 1
      UNION ALL
      SELECT {_NEXT.format(after="found.name")}, place + 1 FROM found
       WHERE found.name IS NOT NULL AND place < %s)
    SELECT name FROM found WHERE name IS NOT NULL
"""


def shares(
    db: Dialect,
    backend_alias: str,
    lane: tuple[str, int],
    *,
    after: str = "",
    limit: int,
) -> list[str]:
    """Up to so many shares that have rows in a lane (queue, negated priority)."""
    values = (backend_alias, *lane)
    with db.connection.cursor() as cursor:
        cursor.execute(SHARES, (*values, after, *values, limit))
        return [name for (name,) in cursor.fetchall()]
