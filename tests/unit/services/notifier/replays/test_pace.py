"""Due times of a replay's events: their own times, stretched, capped, limited, and after pauses and delays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from contracts.replay import PAUSE_WINDOW, ReplayPace, Speed
from services.notifier.replays.pace import CATCH_UP_S, FailureWindow, Schedule, estimated_seconds
from services.notifier.replays.target import SendOutcome

START = datetime(2026, 1, 1, tzinfo=UTC)
OFFSETS = (0.0, 1.0, 1.0, 5.0, 65.0)


def due_times(pace: ReplayPace, offsets: tuple[float, ...] = OFFSETS) -> list[float]:
    """Return the due times of events, each asked for at the due time of the one before it."""
    schedule, now, found = Schedule(pace), 100.0, []
    for offset in offsets:
        now = schedule.due(START + timedelta(seconds=offset), now)
        found.append(now - 100)
    return found


@pytest.mark.parametrize(
    ("speed", "max_gap_s", "rate_per_s", "expected"),
    [
        ("1x", None, None, [0, 1, 1, 5, 65]),
        ("4x", None, None, [0, 0.25, 0.25, 1.25, 16.25]),
        ("max", None, None, [0, 0, 0, 0, 0]),
        ("1x", 2.0, None, [0, 1, 1, 3, 5]),
        ("4x", 2.0, None, [0, 0.25, 0.25, 1.25, 3.25]),
        ("1x", None, 0.5, [0, 2, 4, 8, 68]),
        ("max", None, 10.0, [0, 0.1, 0.2, 0.3, 0.4]),
        ("1x", 0.0, None, [0, 0, 0, 0, 0]),
    ],
)
def test_due_times(speed: Speed, max_gap_s: float | None, rate_per_s: float | None, expected: list[float]) -> None:
    pace = ReplayPace(speed=speed, max_gap_s=max_gap_s, rate_per_s=rate_per_s)
    assert due_times(pace) == pytest.approx(expected)


def test_times_that_go_back_wait_for_nothing() -> None:
    assert due_times(ReplayPace(), (0.0, 3.0, 1.0, 2.0)) == pytest.approx([0, 3, 3, 4])


def test_a_late_event_delays_no_other_one() -> None:
    schedule = Schedule(ReplayPace())
    assert schedule.due(START, 100) == 100
    assert schedule.due(START + timedelta(seconds=1), 100 + 0.9 * CATCH_UP_S) == pytest.approx(101)
    assert schedule.due(START + timedelta(seconds=2), 101.5) == pytest.approx(102)


def test_a_replay_that_is_too_late_goes_on_from_there() -> None:
    schedule = Schedule(ReplayPace())
    schedule.due(START, 100)
    assert schedule.due(START + timedelta(seconds=1), 160) == pytest.approx(160 - CATCH_UP_S)
    assert schedule.due(START + timedelta(seconds=3), 160) == pytest.approx(162 - CATCH_UP_S)


def test_a_pause_moves_the_rest_back() -> None:
    schedule = Schedule(ReplayPace())
    schedule.due(START, 100)
    schedule.due(START + timedelta(seconds=5), 100)
    assert schedule.delay(30) == pytest.approx(135)
    assert schedule.due(START + timedelta(seconds=6), 135) == pytest.approx(136)


@pytest.mark.parametrize(
    ("pace", "expected"),
    [
        (ReplayPace(speed="1x"), 60),
        (ReplayPace(speed="4x"), 15),
        (ReplayPace(speed="1x", max_gap_s=0.5), 5),
        (ReplayPace(speed="1x", rate_per_s=0.1), 100),
        (ReplayPace(speed="max", rate_per_s=2), 5),
    ],
)
def test_the_estimate_of_eleven_events_in_a_minute(pace: ReplayPace, expected: float) -> None:
    assert estimated_seconds(pace, 11, 60) == pytest.approx(expected)


def test_nothing_takes_no_time() -> None:
    assert estimated_seconds(ReplayPace(rate_per_s=1), 0, 0) == 0


def test_more_than_a_fifth_of_the_newest_events_must_fail() -> None:
    window = FailureWindow()
    outcomes = [SendOutcome.FAILED] * 10 + [SendOutcome.SENT] * (PAUSE_WINDOW - 10)
    assert not any(window.add(outcome) for outcome in outcomes)
    assert not any(window.add(SendOutcome.SKIPPED) for _ in range(PAUSE_WINDOW))
    assert not window.add(SendOutcome.FAILED), "the oldest failure has left the window"
    for _ in range(PAUSE_WINDOW):
        window.add(SendOutcome.SENT)
    assert [window.add(SendOutcome.FAILED) for _ in range(11)] == [False] * 10 + [True]
