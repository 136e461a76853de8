"""Quiet hours: over midnight, in a time zone, and on the days when the clocks change."""

import math
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from services.notifier.webhooks.endpoints.quiet_hours import QuietHours


def at(text: str) -> float:
    return datetime.fromisoformat(text).astimezone(UTC).timestamp()


NIGHT = QuietHours(start="22:00", end="07:00", time_zone="Europe/Berlin")


@pytest.mark.parametrize(
    ("now", "over_at"),
    [
        ("2026-01-10T21:59:59+01:00", None),
        ("2026-01-10T22:00:00+01:00", "2026-01-11T07:00:00+01:00"),
        ("2026-01-11T03:00:00+01:00", "2026-01-11T07:00:00+01:00"),
        ("2026-01-11T06:59:59+01:00", "2026-01-11T07:00:00+01:00"),
        ("2026-01-11T07:00:00+01:00", None),
        # The clocks are put forward, and back: the night ends at seven o'clock of the new time.
        ("2026-03-29T00:30:00+01:00", "2026-03-29T07:00:00+02:00"),
        ("2026-10-25T00:30:00+02:00", "2026-10-25T07:00:00+01:00"),
    ],
)
def test_a_night(now, over_at):
    assert NIGHT.over_at_s(at(now)) == (-math.inf if over_at is None else at(over_at))


def test_a_time_of_the_same_day():
    noon = QuietHours(start="12:00", end="13:30")

    assert noon.over_at_s(at("2026-01-10T11:59:00+00:00")) == -math.inf
    assert noon.over_at_s(at("2026-01-10T12:30:00+00:00")) == at("2026-01-10T13:30:00+00:00")
    assert noon.over_at_s(at("2026-01-10T13:30:00+00:00")) == -math.inf


def test_equal_times_are_no_quiet_hours():
    never = QuietHours(start="08:00", end="08:00")

    assert all(never.over_at_s(at(f"2026-01-10T{hour:02d}:00:00+00:00")) == -math.inf for hour in range(24))


@pytest.mark.parametrize(
    "fields",
    [
        {"start": "24:00", "end": "07:00"},
        {"start": "7:00", "end": "08:00"},
        {"start": "22:00", "end": "07:00", "time_zone": "../etc/passwd"},
        {"start": "22:00", "end": "07:00", "time_zone": "Mars/Olympus"},
    ],
)
def test_what_is_no_time_is_refused(fields):
    with pytest.raises(ValidationError):
        QuietHours(**fields)
