"""
What a step of a multi-step job needs beside its claim, in one seek.

It is asked once a step, so it goes past the ORM; and it names the claim, so a step that
somebody else has by now is not begun.
"""

from __future__ import annotations

import json
from typing import Any

from windlass.db.base import Dialect
from windlass.db.records import Claimed

COLUMNS = ("name", "unique_key", "plan", "workspace", "progress")
HELD = f"""
    SELECT {", ".join(COLUMNS)} FROM windlass_live
     WHERE id = %s AND node = %s AND claim = %s
"""


def held(db: Dialect, node: int, job: Claimed) -> dict[str, Any] | None:
    """The columns of a job that this claim still holds, or None."""
    with db.connection.cursor() as cursor:
        cursor.execute(HELD, (db.key(job.id), node, job.claim))
        row = cursor.fetchone()
    if row is None:
        return None
    name, unique_key, *texts = row
    values = (None if text is None else json.loads(text) for text in texts)
    return dict(zip(COLUMNS, (name, unique_key, *values), strict=True))
