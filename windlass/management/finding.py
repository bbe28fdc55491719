"""What the doctor finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from windlass.conf import Options


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found: how bad it is, what it means, and what to do."""

    check: str
    level: Literal["ok", "warning", "problem"]
    says: str
    do: str = ""


Check = Callable[[Options], Iterator[Finding]]
