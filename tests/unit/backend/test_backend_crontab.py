"""When crontabs fire, over changes of clocks; pure functions, no clock of the machine."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootbound_backend.apps.schedules.crontab import (
    CrontabError,
    check_timezone,
    next_fire,
    normalised,
)

BERLIN = "Europe/Berlin"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def fires(crontab: str, zone: str, start: str, count: int) -> list[str]:
    at, found = utc(start), []
    for _ in range(count):
        at = next_fire(normalised(crontab), zone, at)
        found.append(at.strftime("%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("crontab", "zone", "start", "expected"),
    [
        # Clocks go forward at 02:00 on 29 March 2026: 02:30 does not exist, and is 03:00.
        ("30 2 * * *", BERLIN, "2026-03-27T12:00", ["28 01:30", "29 01:00", "30 00:30"]),
        # Clocks go back at 03:00 on 25 October 2026: 02:30 comes twice, and fires once.
        ("30 2 * * *", BERLIN, "2026-10-23T12:00", ["24 00:30", "25 00:30", "26 01:30"]),
        # An instant between the two 02:30s is not sent back in time.
        ("30 2 * * *", BERLIN, "2026-10-25T01:10", ["26 01:30"]),
        # What is due every half hour goes on by real time.
        ("*/30 * * * *", BERLIN, "2026-10-25T00:15", ["25 00:30", "25 01:00", "25 01:30"]),
        ("*/30 * * * *", BERLIN, "2026-03-29T00:45", ["29 01:00", "29 01:30", "29 02:00"]),
        # Two times of which one falls into the gap fire at one instant, once.
        ("0 2,3 * * *", BERLIN, "2026-03-28T12:00", ["29 01:00", "30 00:00", "30 01:00"]),
        # Half an hour of change, in the south.
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-02T20:00", ["03 15:30", "04 15:15"]),
        ("0 9 * * MON-FRI", "UTC", "2026-11-27T10:00", ["30 09:00", "01 09:00"]),
        ("0 12 29 2 *", "UTC", "2026-01-01T00:00", ["29 12:00"]),
        ("@daily", "Asia/Kolkata", "2026-01-01T00:00", ["01 18:30"]),
    ],
)
def test_it_fires_when_the_clocks_say_so(crontab, zone, start, expected):
    assert fires(crontab, zone, start, len(expected)) == expected


@settings(max_examples=60, deadline=None)
@given(
    crontab=st.sampled_from(["30 2 * * *", "*/20 * * * *", "0 1-3 * * *", "59 23 * * SUN"]),
    zone=st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "UTC"]),
    start=st.datetimes(datetime(2025, 1, 1), datetime(2027, 12, 31)),  # noqa: DTZ001
)
def test_it_always_goes_forward_and_means_the_local_clock(crontab, zone, start):
    moments = [start.replace(tzinfo=UTC)]
    for _ in range(4):
        moments.append(next_fire(crontab, zone, moments[-1]))
    assert all(before < after for before, after in pairwise(moments))
    minutes = {"30": {30, 0}, "*/20": {0, 20, 40}, "0": {0, 30}, "59": {59}}[crontab.split()[0]]
    assert all(at.astimezone(ZoneInfo(zone)).minute in minutes for at in moments[1:])


@pytest.mark.parametrize(
    ("crontab", "sentence"),
    [
        ("0 0 31 2 *", "never fires"),
        ("0 0 30 FEB *", "never fires"),
        ("0 0 31 4,6,9,11 *", "never fires"),
        ("0 25 * * *", "bad hour"),
        ("0 0 32 * *", "bad day-of-month"),
        ("0 0 * 13 *", "bad month"),
        ("* * * *", "has 4 fields"),
        ("0 * * * * *", "has 6 fields"),
        ("", "has 0 fields"),
        ("@reboot", "has 1 fields"),
    ],
)
def test_what_cannot_be_used_gets_one_sentence(crontab, sentence):
    with pytest.raises(CrontabError, match=sentence) as refused:
        normalised(crontab)
    assert str(refused.value).count(". ") == 0


def test_days_that_exist_in_some_year_or_by_the_weekday_are_fine():
    assert normalised(" 0  0 29 2  * ") == "0 0 29 2 *"
    assert normalised("0 0 31 2 mon") == "0 0 31 2 MON"  # the 31st or a Monday
    with pytest.raises(CrontabError, match="no time zone"):
        check_timezone("Europe/Atlantis")
