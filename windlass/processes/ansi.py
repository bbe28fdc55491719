"""
Colours in the lines of a log, from the codes that programs write for a terminal.

What is known becomes the name of a class, from a list of our own; all other codes
vanish, and so do characters that would do something.
"""

from __future__ import annotations

import re

CODE = re.compile(r"\x1b\[([0-9;:]*)m")
# Other commands to a terminal, and control characters but tab and line feed.
OTHER = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\].*?(?:\x07|\x1b\\)|\x1b.|[\x00-\x08\x0b-\x1f\x7f]"
)
NAMES = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
STYLES = {1: "bold", 2: "faint", 3: "italic", 4: "underline", 7: "inverse", 9: "strike"}
CLASSES = {
    **{30 + n: f"ansi-{name}" for n, name in enumerate(NAMES)},
    **{90 + n: f"ansi-bright-{name}" for n, name in enumerate(NAMES)},
    **{40 + n: f"ansi-on-{name}" for n, name in enumerate(NAMES)},
    **{100 + n: f"ansi-on-bright-{name}" for n, name in enumerate(NAMES)},
    **{n: f"ansi-{name}" for n, name in STYLES.items()},
}
# Which of them each code ends.
ENDS = {
    39: (*range(30, 38), *range(90, 98)),
    49: (*range(40, 48), *range(100, 108)),
    22: (1, 2),
    **{20 + n: (n,) for n in (3, 4, 7, 9)},
}


def parts(text: str) -> list[tuple[str, str]]:
    """A line as (classes, text), in order."""
    found: list[tuple[str, str]] = []
    on: dict[int, str] = {}
    at = 0
    for code in CODE.finditer(text):
        _add(found, on, text[at : code.start()])
        at = code.end()
        _apply(on, code[1])
    _add(found, on, text[at:])
    return found


def _add(found: list[tuple[str, str]], on: dict[int, str], text: str) -> None:
    if text := OTHER.sub("", text):
        found.append((" ".join(on.values()), text))


def _apply(on: dict[int, str], said: str) -> None:
    numbers = [int(n or 0) for n in re.split("[;:]", said)]
    while numbers:
        number = numbers.pop(0)
        if number in (38, 48):
            # 256 colours, and all of them: we have sixteen.
            kind = numbers.pop(0) if numbers else 0
            del numbers[: 1 if kind == 5 else 3 if kind == 2 else 0]
        elif number == 0:
            on.clear()
        elif number in CLASSES:
            for end in (39, 49):
                if number in ENDS[end]:
                    _forget(on, end)
            on[number] = CLASSES[number]
        else:
            _forget(on, number)


def _forget(on: dict[int, str], end: int) -> None:
    for number in ENDS.get(end, ()):
        on.pop(number, None)
