"""Text for a terminal, in which nothing moves the cursor or does worse."""

from __future__ import annotations

import re

# C0 and C1 but tab and line feed.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def plain(text: object) -> str:
    """Text without what a terminal would obey."""
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(text))
