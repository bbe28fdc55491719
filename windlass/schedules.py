"""
When a schedule is due: rules of text, zone and moment, and of nothing else.

A schedule is written as cron ("30 2 * * *", with seconds in front if there are six
fields), as a preset ("@daily"), or as an interval ("every 10s"). An interval counts
from 1970 in UTC: "every 10s" is due at :00, :10, :20 of each minute, whoever asks and
whenever it was made, so neither a restart nor a change of its arguments moves it.

Cron means the clock on the wall of its zone, which jumps twice a year in many places:

- If minute and hour are both fixed, a time that the clock skips is due when it has
  skipped it, and a time that it shows twice is due the first time. So a daily job runs
  once on each day.
- If one of them begins with a star, it is due whenever the wall shows such a time:
  twice where the clock shows it twice, and not where it is skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

TEXT_LENGTH = 255
PRESETS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
INTERVAL = re.compile(
    r"every (?:(\d{1,9}) ?)?"
    r"(s|sec|seconds?|m|min|minutes?|h|hours?|d|days?|w|weeks?)",
    re.IGNORECASE,
)
LONGEST = 100 * 366 * 86400
SHAPES = (
    'cron such as "30 2 * * *", a preset such as "@daily", an interval such as '
    '"every 10s", or a whole number of seconds or a timedelta'
)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Timing:
    """When something is due again and again."""

    text: str
    zone: ZoneInfo

    def after(self, moment: datetime) -> datetime:
        """The first due time after an aware moment, in UTC."""
        seconds = _interval(self.text)
        if seconds is not None:
            return _on_the_grid(moment, seconds)
        expression = PRESETS.get(self.text, self.text)
        minute, hour = expression.split()[-5:-3]
        if minute.startswith("*") or hour.startswith("*"):
            return _as_the_wall_shows(expression, self.zone, moment)
        return _once_a_day(expression, self.zone, moment)

    def latest(self, first: datetime, moment: datetime) -> datetime:
        """The last due time up to a moment, ``first`` being one of them."""
        seconds = _interval(self.text)
        if seconds is not None:
            return max(first, _on_the_grid(moment, seconds) - timedelta(0, seconds))
        # Twice as far back each time, so that a year of missed minutes costs little.
        back = MINUTE
        while moment - back > first:
            found = self.after(moment - back)
            if found <= moment:
                return self._last_from(found, moment)
            back *= 2
        return self._last_from(first, moment)

    def _last_from(self, due: datetime, moment: datetime) -> datetime:
        while (following := self.after(due)) <= moment:
            due = following
        return due


class Decision(NamedTuple):
    """What to do about a due time: fire this one, if any, and look again then."""

    fires: datetime | None
    following: datetime


def decide(
    timing: Timing,
    due: datetime,
    *,
    now: datetime,
    missed: str,
    missed_before: datetime,
) -> Decision:
    """
    Say what follows from a due time that has come.

    One before ``missed_before`` was missed: as the schedule says in ``missed``, each
    such time fires (``"all"``), only the latest (``"latest"``), or none (``"skip"``).
    """
    if missed == "all" or due >= missed_before:
        return Decision(due, timing.after(due))
    if missed == "skip":
        return Decision(None, timing.after(missed_before - timedelta(microseconds=1)))
    latest = timing.latest(due, now)
    return Decision(latest, timing.after(latest))


def written(schedule: Any) -> str:
    """The text of a schedule, however it was given; raise ValueError if it is none."""
    if isinstance(schedule, timedelta):
        if schedule.microseconds:
            raise ValueError(f"an interval must be whole seconds, not {schedule!r}")
        schedule = schedule.days * 86400 + schedule.seconds
    if type(schedule) is int:
        if not 1 <= schedule <= LONGEST:
            raise ValueError(f"an interval must be 1 s to 100 years, not {schedule} s")
        return f"every {schedule}s"
    if not isinstance(schedule, str):
        raise ValueError(f"a schedule must be {SHAPES}, not {schedule!r}")
    text = " ".join(schedule.split())
    if not text or len(text) > TEXT_LENGTH:
        raise ValueError(f"a schedule must be {SHAPES}, not {schedule!r}")
    return text.lower() if text.startswith("@") else text


def timing(schedule: Any, zone: str) -> Timing:
    """Read a schedule that will be due some day, or raise ValueError."""
    found = Timing(written(schedule), zone_named(zone))
    text = found.text
    if text.lower().startswith("every"):
        seconds = _interval(text)
        if seconds is None or not 1 <= seconds <= LONGEST:
            raise ValueError(
                f'{text!r} is no interval: write "every 10s", "every 5 minutes", '
                '"every 2h" or "every 7 days", from 1 s to 100 years'
            )
        return found
    if text.startswith("@") and text not in PRESETS:
        raise ValueError(f"there is no preset {text!r}: {', '.join(PRESETS)}")
    try:
        CronSim(PRESETS.get(text, text), datetime(2024, 1, 1))
        found.after(datetime(2024, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise ValueError(f"{text!r} is not {SHAPES}: {error}") from error
    return found


def zone_named(name: str) -> ZoneInfo:
    """A time zone by its name, or ValueError."""
    try:
        return ZoneInfo(name)
    # What is no name at all ends in as many ways as there are.
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'there is no time zone {name!r}; write one such as "Europe/Berlin"'
        ) from error


@lru_cache(maxsize=1024)
def _interval(text: str) -> int | None:
    found = INTERVAL.fullmatch(text)
    return int(found[1] or 1) * UNITS[found[2][0].lower()] if found else None


def _on_the_grid(moment: datetime, seconds: int) -> datetime:
    passed = int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() // 1)
    return datetime.fromtimestamp((passed // seconds + 1) * seconds, UTC)


def _once_a_day(expression: str, zone: ZoneInfo, moment: datetime) -> datetime:
    for wall in _walls(expression, _wall(moment, zone)):
        due = wall.replace(tzinfo=zone)
        if not _exists(due):
            due = wall.replace(second=0, tzinfo=zone)
            while not _exists(due):
                due += MINUTE
        if (found := due.astimezone(UTC)) > moment:
            return found
    raise _never(expression)


def _as_the_wall_shows(expression: str, zone: ZoneInfo, moment: datetime) -> datetime:
    here = _wall(moment, zone)
    local = moment.astimezone(zone)
    # If the clock is about to be set back, it will show again what it showed before.
    again = local.utcoffset() != local.replace(fold=1).utcoffset() and not local.fold
    behind = _set_back(local) if again else timedelta(0)
    best: datetime | None = None
    for wall in _walls(expression, here - behind):
        for fold in (0, 1):
            shown = wall.replace(tzinfo=zone, fold=fold)
            due = shown.astimezone(UTC)
            if _exists(shown) and due > moment and (best is None or due < best):
                best = due
        # Later walls come later, but for those that the clock is to show again.
        if best is not None and wall > here:
            return best
    raise _never(expression)


def _set_back(local: datetime) -> timedelta:
    both = local.replace(fold=1).astimezone(UTC) - local.astimezone(UTC)
    return both + SECOND


def _walls(expression: str, wall: datetime) -> Iterator[datetime]:
    # Without a zone it counts on as a clock that nobody sets. A bound, because one
    # that is due in skipped hours only would go on for ever.
    found = islice(CronSim(expression, wall), 100_000)
    while True:
        try:
            yield next(found)
        except (StopIteration, OverflowError, ValueError):
            return


def _wall(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def _exists(local: datetime) -> bool:
    back = local.astimezone(UTC).astimezone(local.tzinfo)
    return back.replace(tzinfo=None) == local.replace(tzinfo=None)


def _never(expression: str) -> CronSimError:
    return CronSimError(f"{expression!r} has no due time in the next fifty years")
