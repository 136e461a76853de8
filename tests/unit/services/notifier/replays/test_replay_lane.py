"""When a replay may send to an endpoint: rate shared with live deliveries, quiet hours, Retry-After."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from services.notifier.replays.targets.replay_lane import ReplayLane
from services.notifier.webhooks.endpoints.quiet_hours import QuietHours

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()


def test_without_limits_it_may_always_send() -> None:
    lane = ReplayLane()
    lane.count(NOON)
    assert lane.allows_at(NOON, None) == -math.inf


def test_it_gets_what_live_requests_leave_of_the_rate() -> None:
    lane = ReplayLane()
    lane.rate.per_s = 2
    for number in range(4):
        lane.count(NOON + number / 10)  # live
    sent, now = [], NOON + 0.4
    while now < NOON + 10:
        if lane.allows_at(now, None) <= now:
            lane.count(now)
            sent.append(now)
        now += 0.01
    in_ten_seconds = 4 + len(sent)
    assert in_ten_seconds <= 2 * 10 + 2
    assert in_ten_seconds >= 2 * 10 - 2


def test_live_requests_at_the_whole_rate_leave_nothing() -> None:
    lane = ReplayLane()
    lane.rate.per_s = 10
    for number in range(100):
        now = NOON + number / 10
        lane.count(now)
        if number > 20:
            assert lane.allows_at(now, None) > now


def test_it_waits_in_quiet_hours() -> None:
    lane = ReplayLane()
    hours = QuietHours(start="11:00", end="13:30")
    assert lane.allows_at(NOON, hours) == NOON + 1.5 * 3600
    assert lane.allows_at(NOON + 1.5 * 3600, hours) == -math.inf


@pytest.mark.parametrize(("status", "waits"), [(429, True), (503, True), (500, False), (200, False), (None, False)])
def test_it_waits_as_long_as_an_overloaded_receiver_asks(status: int | None, waits: bool) -> None:
    lane = ReplayLane()
    lane.answered(status, 30.0, NOON)
    assert (lane.allows_at(NOON, None) == NOON + 30) == waits


def test_a_receiver_cannot_ask_for_a_year() -> None:
    lane = ReplayLane()
    lane.answered(503, 365 * 86_400.0, NOON)
    assert lane.allows_at(NOON, None) <= NOON + 36_000
