"""Rate limit of frames: a burst, then a steady rate, for each camera by itself."""

from __future__ import annotations

from services.gateway.telemetry.frame_rate import FRAMES_HZ, FrameRate
from services.gateway.telemetry.frames_under_way import FramesUnderWay


class Clock:
    """A clock that is set by the test."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def admitted(rate: FrameRate, clock: Clock, hz: float, seconds: float, source: str = "camera") -> int:
    count = 0
    for _ in range(round(hz * seconds)):
        clock.now_s += 1 / hz
        count += rate.admits(source)
    return count


def test_a_flood_gets_the_rate_after_its_burst() -> None:
    rate = FrameRate(clock := Clock())
    assert abs(admitted(rate, clock, 120, 30) - (60 + 30 * FRAMES_HZ)) <= 1
    assert admitted(rate, clock, 120, 10) == 600
    assert admitted(rate, clock, 59, 10) == 590


def test_cameras_have_rates_of_their_own_and_inventing_them_gives_no_more() -> None:
    rate = FrameRate(lambda: 0.0)
    assert sum(rate.admits("left") for _ in range(100)) == 60
    assert sum(rate.admits("right") for _ in range(100)) == 60
    assert sum(rate.admits(f"camera {number}") for number in range(5000)) == 14 + 60


def test_frames_without_a_verdict_are_counted_to_a_limit() -> None:
    frames = FramesUnderWay()
    for seq in range(5000):
        frames.add("a", "camera", seq)
    frames.add("b", "camera", 1)
    assert (frames.count("a"), frames.count("b"), frames.count("c")) == (2048, 1, 0)
    for seq in range(5000):
        frames.remove("a", "camera", seq)
    frames.remove("c", "camera", 1)
    assert (frames.count("a"), frames.count("b")) == (0, 1)
