"""When a schedule is due: over zones, over clocks that are set, over years."""

from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from windlass.schedules import decide, timing, written, zone_named

BERLIN = "Europe/Berlin"
# Both ways on different days, at midnight, by half an hour, by none, a whole day.
ZONES = [
    *(BERLIN, "America/New_York", "America/Sao_Paulo", "Asia/Beirut", "Africa/Cairo"),
    *("Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia", "Asia/Kathmandu", "UTC"),
    *("America/St_Johns", "Pacific/Chatham", "Africa/Casablanca", "Europe/Dublin"),
]
zones = st.sampled_from(ZONES)
moments = st.datetimes(
    datetime(2000, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC)
)


def at(text):
    return datetime.fromisoformat(text).astimezone(UTC)


def wall(moment, zone):
    return moment.astimezone(ZoneInfo(zone))


@cache
def transitions(zone, year):
    """The hours of a year in which a zone's clock is set."""
    found, hour = [], datetime(year, 1, 1, tzinfo=UTC)
    while hour.year == year:
        following = hour + timedelta(hours=1)
        if wall(hour, zone).utcoffset() != wall(following, zone).utcoffset():
            found.append(hour)
        hour = following
    return found or [datetime(year, 3, 1, tzinfo=UTC)]


near_transitions = st.builds(
    lambda zone, year, place, minutes: (
        zone,
        transitions(zone, year)[place] + timedelta(minutes=minutes),
    ),
    zones,
    st.sampled_from([2006, 2013, 2020, 2026]),
    st.sampled_from([0, -1]),
    st.integers(-200, 200),
)


@pytest.mark.parametrize(
    ("text", "moment", "due"),
    [
        ("30 2 * * *", "2026-01-01T02:30+01:00", "2026-01-02T02:30+01:00"),
        ("@daily", "2026-01-01T12:00+01:00", "2026-01-02T00:00+01:00"),
        ("0 0 29 2 *", "2025-01-01T00:00+01:00", "2028-02-29T00:00+01:00"),
        ("*/20 * * * * *", "2026-01-01T00:00:01+01:00", "2026-01-01T00:00:20+01:00"),
        ("0 9 * * MON#1", "2026-01-01T00:00+01:00", "2026-01-05T09:00+01:00"),
        ("0 0 L * *", "2026-02-01T00:00+01:00", "2026-02-28T00:00+01:00"),
        ("every 10s", "2026-01-01T00:00:10+01:00", "2026-01-01T00:00:20+01:00"),
        ("every 5 minutes", "2026-01-01T00:00:10+01:00", "2026-01-01T00:05+01:00"),
        ("every day", "2026-01-01T00:00:10+01:00", "2026-01-01T01:00+01:00"),
        # What the clock skips is due when it has skipped it; what it shows twice, once.
        ("30 2 * * *", "2026-03-28T12:00+01:00", "2026-03-29T03:00+02:00"),
        ("30 2 * * *", "2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"),
        ("0 30 2 * * *", "2026-03-28T12:00+01:00", "2026-03-29T03:00+02:00"),
        ("30 2 * * *", "2026-10-25T00:00+02:00", "2026-10-25T02:30+02:00"),
        ("30 2 * * *", "2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"),
        ("30 2 * * *", "2026-10-25T02:10+01:00", "2026-10-26T02:30+01:00"),
        # With a star it is due whenever the clock shows it.
        ("*/30 * * * *", "2026-10-25T02:30+02:00", "2026-10-25T02:00+01:00"),
        ("*/30 2 * * *", "2026-03-28T12:00+01:00", "2026-03-30T02:00+02:00"),
    ],
)
def test_when_it_is_due_next(text, moment, due):
    assert timing(text, BERLIN).after(at(moment)) == at(due)


@given(zones, moments, st.integers(0, 59), st.integers(0, 23))
@example("Pacific/Apia", datetime(2011, 12, 29, tzinfo=UTC), 30, 12)
@settings(max_examples=60, deadline=None)
def test_a_daily_one_is_due_once_for_each_day(zone, moment, minute, hour):
    when = timing(f"{minute} {hour} * * *", zone)
    first = wall(moment, zone).date()

    found, due = [], moment
    for _each in range(400):
        due = when.after(due)
        found.append(due)

    days = [wall(due, zone).date() for due in found]
    assert sorted(set(found)) == found
    # A day that the zone itself has skipped is no day, and what falls into its hours is
    # due with the next one, if that has none of its own at that very time.
    skipped = {date(2011, 12, 30)} if zone == "Pacific/Apia" else set()
    expected = {days[0] + timedelta(days=n) for n in range(399)} - skipped
    assert expected <= set(days)
    assert days[0] - first <= timedelta(days=1 + len(skipped))
    assert len(days) - len(set(days)) <= len(skipped)


@given(near_transitions, st.sampled_from(["*/7 * * * *", "*/20 2 * * *", "5 * * * *"]))
@settings(max_examples=80, deadline=None)
def test_with_a_star_it_is_due_whenever_the_wall_shows_it(place, text):
    zone, moment = place
    when = timing(text, zone)
    minute = (moment + timedelta(minutes=1)).replace(second=0, microsecond=0)

    def shows(moment):
        local = wall(moment, zone)
        return {
            "*/7 * * * *": local.minute % 7 == 0,
            "*/20 2 * * *": local.minute % 20 == 0 and local.hour == 2,
            "5 * * * *": local.minute == 5,
        }[text]

    while not shows(minute):
        minute += timedelta(minutes=1)

    assert when.after(moment) == minute


@given(
    near_transitions,
    st.sampled_from(
        [
            *("30 2 * * *", "0,30 0-3 * * *", "*/7 * * * *", "15 0 29 2 *"),
            *("0 1 * * SUN", "*/10 * * * * *", "every 90s", "every 36h", "@hourly"),
            "59 59 1 * * *",
        ]
    ),
    st.timedeltas(timedelta(0), timedelta(days=2)),
)
@settings(max_examples=150, deadline=None)
def test_due_times_rise_and_none_is_left_out(place, text, passed):
    zone, moment = place
    when = timing(text, zone)
    due = when.after(moment)

    assert due > moment
    # Whoever asks earlier or later, up to it, is told the same.
    between = moment + (due - moment) * 0.999
    assert when.after(between) == due
    # The latest up to a moment is the last that one comes to, step by step.
    now = due + min(passed, timedelta(hours=1))
    latest = when.latest(due, now)
    assert due <= latest <= now
    assert when.after(latest) > now


@given(moments, st.timedeltas(timedelta(0), timedelta(days=4000)))
@settings(max_examples=50, deadline=None)
def test_the_latest_of_years_of_missed_ones_is_found_at_once(moment, passed):
    when = timing("*/5 * * * *", BERLIN)
    due = when.after(moment)

    latest = when.latest(due, due + passed)

    assert timedelta(0) <= due + passed - latest < timedelta(minutes=5)


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("missed", "fires", "following"),
    [
        ("latest", "2026-01-01T11:00Z", "2026-01-01T12:00Z"),
        ("all", "2026-01-01T09:00Z", "2026-01-01T10:00Z"),
        ("skip", None, "2026-01-01T12:00Z"),
    ],
)
def test_what_becomes_of_missed_ones(missed, fires, following):
    now = NOON - timedelta(minutes=10)

    decision = decide(
        timing("@hourly", "UTC"),
        NOON - timedelta(hours=3),
        now=now,
        missed=missed,
        missed_before=now - timedelta(seconds=5),
    )

    assert decision == (fires and at(fires), at(following))


@pytest.mark.parametrize("missed", ["latest", "all", "skip"])
def test_one_that_is_a_little_late_is_not_missed(missed):
    now = NOON + timedelta(seconds=4)

    decision = decide(
        timing("every 1s", "UTC"),
        NOON,
        now=now,
        missed=missed,
        missed_before=now - timedelta(seconds=5),
    )

    assert decision == (NOON, NOON + timedelta(seconds=1))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (90, "every 90s"),
        (timedelta(hours=1), "every 3600s"),
        ("  0  5 * *   * ", "0 5 * * *"),
        ("@Daily", "@daily"),
    ],
)
def test_a_schedule_is_one_text_however_it_was_given(given, text):
    assert written(given) == text


@pytest.mark.parametrize(
    "given",
    [
        *("", "never", "* * * *", "61 * * * *", "0 0 31 2 *", "@sometimes", "every"),
        *(
            "every 0s",
            "every 10 lightyears",
            "every -5s",
            "every 999999999w",
            "*" * 300,
        ),
        *(0, -1, True, 1.5, None, timedelta(0), timedelta(milliseconds=10), [1]),
        *(
            "1 2 3 4 5 6 7",
            "x",
            "*/5 2 31 3 */7",
            "0 0 30 2 * *\0",
            "*/0 * * * *",
            "ß ß ß ß ß",
        ),
    ],
)
def test_what_is_no_schedule_is_refused_and_says_so(given):
    with pytest.raises(ValueError) as refused:
        timing(given, BERLIN)

    assert len(str(refused.value)) > 20


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", None, 5, "\0"])
def test_what_is_no_zone_is_refused(name):
    with pytest.raises(ValueError, match="no time zone"):
        zone_named(name)
