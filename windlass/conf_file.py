"""
The file of options: TOML, with a table for each backend alias.

Each table has the shape of that backend's OPTIONS. Which file it is, WINDLASS_CONFIG
says, or ``--config`` on the command line.
"""

import tomllib
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from windlass.exceptions import ConfigurationError

FILE, MODE = "WINDLASS_CONFIG", "WINDLASS_MODE"


def entry(path: str, alias: str, known: Sequence[str]) -> Any:
    """Return what a file says of one alias; refuse it if it names others than known."""
    entries = _read(path)
    for name in entries:
        if name not in known:
            nearest = get_close_matches(name, known, n=1)
            raise ConfigurationError(
                f'{path}["{name}"]: TASKS has no such Windlass backend; '
                + (
                    f'did you mean "{nearest[0]}"?'
                    if nearest
                    else f"it has: {', '.join(known)}. Put options in the table of one."
                )
            )
    return entries.get(alias, {})


def _read(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        why = f"cannot be read: {error.strerror or error}"
    except UnicodeDecodeError as error:
        why = f"is not UTF-8: {error}"
    except tomllib.TOMLDecodeError as error:
        why = f"is not TOML: {error}"
    raise ConfigurationError(
        f"The file of options {path} {why}. Correct it, or the path in {FILE} or "
        "--config."
    )
